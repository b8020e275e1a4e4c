//! `webhook`: where the end is to be told.

use app::{DEFAULT_SECRET, WebhookRules};
use domain::Webhook;

use super::reader::{Object, Reader};

/// The webhook, with the secret that signs. Every one is signed.
pub fn webhook(object: &mut Object, rules: &WebhookRules, reader: &mut Reader) -> Option<Webhook> {
    let mut given = object.object("webhook", reader)?;
    given.refuse_unknown(&["url", "secretRef"], reader);
    let url = url(&mut given, rules, reader);
    let secret_ref = secret_ref(&mut given, rules, reader);
    Some(Webhook {
        url: url?,
        secret_ref: secret_ref?,
    })
}

fn url(given: &mut Object, rules: &WebhookRules, reader: &mut Reader) -> Option<String> {
    let pointer = given.pointer("url");
    let Some(value) = given.take("url") else {
        reader.add(pointer, "is required");
        return None;
    };
    let url = reader.text(value, pointer.clone())?;
    match rules.check_url(&url) {
        Ok(_) => Some(url),
        Err(why) => {
            reader.add(pointer, why);
            None
        }
    }
}

fn secret_ref(given: &mut Object, rules: &WebhookRules, reader: &mut Reader) -> Option<String> {
    let pointer = given.pointer("secretRef");
    let Some(value) = given.take("secretRef") else {
        if rules.has_secret(DEFAULT_SECRET) {
            return Some(DEFAULT_SECRET.to_owned());
        }
        let detail = format!(
            "is required: webhooks are signed, and no secret named `{DEFAULT_SECRET}` is configured"
        );
        reader.add(pointer, detail);
        return None;
    };
    let name = reader.text(value, pointer.clone())?;
    if rules.has_secret(&name) {
        return Some(name);
    }
    reader.add(pointer, "names no configured secret");
    None
}
