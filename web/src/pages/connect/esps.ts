// What to do at each mail service, in a sentence or two; more stands in docs/esps.md.

export const ESPS: Record<string, { name: string; steps: string }> = {
  amazon_ses: { name: "Amazon SES", steps: "Publish the events of a configuration set to an SNS topic (signature version 2, no raw delivery), name its ARN in topics, and subscribe this address over HTTPS. The subscription is confirmed by itself." },
  brevo: { name: "Brevo", steps: "Add a webhook with this address. Put the user and the password of the source into the address, or choose token as its authentication." },
  generic: { name: "Your own programs", steps: "Post events in our own words to this address. An event's id of your own makes repeats harmless." },
  mailersend: { name: "MailerSend", steps: "Add a webhook of version 2 with this address, choose the plain events, and take over its signing secret." },
  mailgun: { name: "Mailgun", steps: "Add this address for the events of your sending domain, and take over the HTTP webhook signing key of the account." },
  mailjet: { name: "Mailjet", steps: "Set this address for each event, with the user and the password of the source in it. Grouped events cost fewer requests." },
  mailtrap: { name: "Mailtrap", steps: "Under Settings, Webhooks, choose e-mail sending and JSON, set this address, and take over the signing secret." },
  mandrill: { name: "Mandrill", steps: "Make the webhook with exactly the address that stands in public_url, and take over its key." },
  postal: { name: "Postal", steps: "Add a webhook with this address to the mail server. The secret of the source is the installation's public key." },
  postmark: { name: "Postmark", steps: "Add a webhook with this address to the message stream, with the user and the password of the source. Choose bounces, deliveries, opens, clicks, complaints and subscription changes." },
  resend: { name: "Resend", steps: "Add a webhook with this address for the events of e-mails, and take over its signing secret." },
  sendgrid: { name: "SendGrid", steps: "Under Settings, Mail Settings, Event Webhooks, set this address, switch the signed event webhook on, and take over its verification key." },
  sparkpost: { name: "SparkPost", steps: "Add a webhook with this address, with Basic or OAuth 2 as its authentication." },
  unisender_go: { name: "Unisender Go", steps: "Set the webhook with this address, with event_format json_post and delivery_info 1. The secret of the source is the API key." },
};

export const VERIFIED: Record<string, string> = {
  secrets: "its signature", basic: "user and password", bearer: "a token", topics: "its SNS topics", api_key: "an API key with the scope write",
};

export const REFUSED: Record<string, string> = {
  unauthorized: "with a signature or credentials that are missing or wrong", forbidden: "of a topic that is not allowed",
  rate_limited: "beyond the source's limit; they come again", too_large: "too large", try_later: "while they could not be stored; they come again",
  internal: "by a fault of ours; they come again", client_gone: "broken off by the sender", method_not_allowed: "that were not posted",
};
