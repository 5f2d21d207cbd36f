// What operators read, by short names.

import type { components } from "./openapi";

type Shapes = components["schemas"];

export type Lag = Shapes["Lag"];
export type PartitionLag = Shapes["PartitionLag"];
export type Worker = Shapes["Worker"];
export type DeadLetter = Shapes["DeadLetter"];
export type DeadLetters = Shapes["DeadLetters"];
export type WholeDeadLetter = Shapes["WholeDeadLetter"];
export type Replayed = Shapes["Replayed"];
