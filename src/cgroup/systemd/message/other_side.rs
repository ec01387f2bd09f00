//! What a bus and systemd send, and reading what they get.

use super::*;

/// The serial, member and first argument of a call whose first argument is a text, if it has any.
pub(in super::super) fn asked(message: &[u8]) -> (u32, String, String) {
    let mut reader = Reader {
        bytes: message,
        at: 8,
    };
    let serial = reader.number().unwrap();
    let fields = fields(&mut reader).unwrap();
    reader.align(8).unwrap();
    let argument = match fields.signature.starts_with('s') {
        true => reader.text().unwrap(),
        false => String::new(),
    };
    (serial, fields.member, argument)
}

/// An answer that names an object, or nothing.
pub(in super::super) fn reply(to: u32, sender: &str, object: Option<&str>) -> Vec<u8> {
    let mut body = Vec::new();
    let mut fields = vec![(SENDER, "s", sender)];
    if let Some(object) = object {
        fields.push((SIGNATURE, "g", "o"));
        put_text(&mut body, object);
    }
    message(REPLY, &fields, Some(to), &body)
}

/// A refusal.
pub(in super::super) fn refusal(to: u32, name: &str, text: &str) -> Vec<u8> {
    let mut body = Vec::new();
    put_text(&mut body, text);
    let fields = [(ERROR_NAME, "s", name), (SIGNATURE, "g", "s")];
    message(ERROR, &fields, Some(to), &body)
}

/// The end of a job.
pub(in super::super) fn job_removed(sender: &str, job: &str, result: &str) -> Vec<u8> {
    let mut body = Vec::new();
    put_number(&mut body, 12);
    for text in [job, "a.scope", result] {
        put_text(&mut body, text);
    }
    let fields = [
        (PATH, "o", super::super::MANAGER.path),
        (INTERFACE, "s", super::super::MANAGER.interface),
        (MEMBER, "s", "JobRemoved"),
        (SENDER, "s", sender),
        (SIGNATURE, "g", "uoss"),
    ];
    message(SIGNAL, &fields, None, &body)
}

fn message(kind: u8, fields: &[(u8, &str, &str)], reply: Option<u32>, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![LITTLE, kind, 0, VERSION];
    put_number(&mut bytes, size(body));
    put_number(&mut bytes, 9);
    put_array(&mut bytes, 8, |bytes| {
        for (code, kind, text) in fields {
            put_field(bytes, *code, kind, text);
        }
        if let Some(reply) = reply {
            align(bytes, 8);
            bytes.push(REPLY_SERIAL);
            put_signature(bytes, "u");
            put_number(bytes, reply);
        }
    });
    align(&mut bytes, 8);
    bytes.extend(body);
    bytes
}
