//! D-Bus messages as bytes (D-Bus specification, "Message Protocol"): the few types that calls of
//! systemd's manager need.
//!
//! Text to bytes and back, without input or output. What comes in is believed in nothing: every
//! length is checked against what there is.

/// The longest message that is taken. Those of systemd that we ask for are below 2 kB; an error's
/// text may quote what was sent.
pub(super) const MAX_MESSAGE: usize = 64 << 10;
/// Length of what says how long the rest is.
pub(super) const HEAD: usize = 16;

const LITTLE: u8 = b'l';
const VERSION: u8 = 1;
const CALL: u8 = 1;
const REPLY: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;
/// Nobody is started to answer.
const NO_AUTO_START: u8 = 2;

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SENDER: u8 = 7;
const SIGNATURE: u8 = 8;

/// Whom a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    /// The name on the bus.
    pub(super) destination: &'static str,
    /// The object.
    pub(super) path: &'static str,
    /// The interface of its method.
    pub(super) interface: &'static str,
}

/// A method's arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Body {
    signature: String,
    bytes: Vec<u8>,
}

/// The value of a unit's property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// `s`
    Text(&'a str),
    /// `i`
    Number(i32),
    /// `b`
    Flag(bool),
    /// `as`
    Texts(&'a [&'a str]),
    /// `au`
    Numbers(&'a [u32]),
}

/// What came in, as far as it concerns us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Incoming {
    /// A call was answered.
    Reply {
        /// Of which call.
        serial: u32,
        /// Who answers; none on a connection without a bus.
        sender: Option<String>,
        /// The object that it names, if it is that what it says.
        object: Option<String>,
    },
    /// A call was refused.
    Refusal {
        /// Of which call.
        serial: u32,
        /// The error's name, such as `org.freedesktop.systemd1.UnitExists`.
        name: String,
        /// What it says to people.
        text: String,
    },
    /// systemd has ended a job.
    JobRemoved {
        /// Who says so; none on a connection without a bus.
        sender: Option<String>,
        /// The job's object.
        job: String,
        /// `done`, `failed`, `canceled`, `timeout`, `dependency`, `skipped`.
        result: String,
    },
    /// Something else.
    Other,
}

impl Body {
    /// Adds a text.
    pub(super) fn text(mut self, text: &str) -> Body {
        self.signature.push('s');
        put_text(&mut self.bytes, text);
        self
    }

    /// Adds properties and no auxiliary units: the end of `StartTransientUnit`'s arguments.
    pub(super) fn properties(mut self, properties: &[(&str, Value<'_>)]) -> Body {
        self.signature.push_str("a(sv)a(sa(sv))");
        put_array(&mut self.bytes, 8, |bytes| {
            for (name, value) in properties {
                align(bytes, 8);
                put_text(bytes, name);
                put_variant(bytes, value);
            }
        });
        put_array(&mut self.bytes, 8, |_| {});
        self
    }
}

/// A method call.
pub(super) fn call(serial: u32, target: Target, member: &str, body: &Body) -> Vec<u8> {
    let mut bytes = vec![LITTLE, CALL, NO_AUTO_START, VERSION];
    put_number(&mut bytes, size(&body.bytes));
    put_number(&mut bytes, serial);
    put_array(&mut bytes, 8, |bytes| {
        put_field(bytes, PATH, "o", target.path);
        put_field(bytes, INTERFACE, "s", target.interface);
        put_field(bytes, MEMBER, "s", member);
        put_field(bytes, DESTINATION, "s", target.destination);
        if !body.signature.is_empty() {
            put_field(bytes, SIGNATURE, "g", &body.signature);
        }
    });
    align(&mut bytes, 8);
    bytes.extend_from_slice(&body.bytes);
    bytes
}

/// The length of the whole message that begins so.
pub(super) fn length(head: [u8; HEAD]) -> Result<usize, &'static str> {
    if head[0] != LITTLE || head[3] != VERSION {
        return Err("a message of another byte order or version");
    }
    let number =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let fields = usize::try_from(number(12)).unwrap_or(MAX_MESSAGE);
    let body = usize::try_from(number(4)).unwrap_or(MAX_MESSAGE);
    let length = HEAD
        .saturating_add(fields)
        .checked_next_multiple_of(8)
        .map_or(usize::MAX, |start| start.saturating_add(body));
    if length > MAX_MESSAGE {
        return Err("a message longer than 64 KiB");
    }
    Ok(length)
}

/// Reads a whole message.
pub(super) fn parse(message: &[u8]) -> Result<Incoming, &'static str> {
    let mut reader = Reader {
        bytes: message,
        at: 0,
    };
    let [order, kind, _flags, version] = reader.take()?;
    if order != LITTLE || version != VERSION {
        return Err("a message of another byte order or version");
    }
    let body = reader.number()?;
    reader.number()?;
    let fields = fields(&mut reader)?;
    reader.align(8)?;
    if reader.bytes.len() - reader.at != usize::try_from(body).unwrap_or(usize::MAX) {
        return Err("a message whose length is not what it says");
    }
    let Fields {
        member,
        interface,
        sender,
        signature,
        ..
    } = &fields;
    match (kind, fields.reply_serial) {
        (REPLY, Some(serial)) => Ok(Incoming::Reply {
            serial,
            sender: sender.clone(),
            object: (signature == "o").then(|| reader.text()).transpose()?,
        }),
        (ERROR, Some(serial)) => Ok(Incoming::Refusal {
            serial,
            name: fields.error.clone(),
            text: match signature.starts_with('s') {
                true => reader.text()?,
                false => String::new(),
            },
        }),
        (SIGNAL, _)
            if member == "JobRemoved"
                && interface == super::MANAGER.interface
                && signature == "uoss" =>
        {
            reader.number()?;
            let job = reader.text()?;
            let _unit = reader.text()?;
            let result = reader.text()?;
            let sender = sender.clone();
            Ok(Incoming::JobRemoved {
                sender,
                job,
                result,
            })
        }
        (REPLY | ERROR, None) => Err("an answer that does not say to what"),
        _ => Ok(Incoming::Other),
    }
}

/// What a message's header says.
#[derive(Debug, Default)]
struct Fields {
    interface: String,
    member: String,
    error: String,
    reply_serial: Option<u32>,
    sender: Option<String>,
    signature: String,
}

fn fields(reader: &mut Reader<'_>) -> Result<Fields, &'static str> {
    let mut fields = Fields::default();
    let length = usize::try_from(reader.number()?).unwrap_or(MAX_MESSAGE);
    let end = reader.at.saturating_add(length);
    if end > reader.bytes.len() {
        return Err(SHORT);
    }
    while reader.at < end {
        reader.align(8)?;
        let [code] = reader.take()?;
        let kind = reader.signature()?;
        match (code, kind.as_str()) {
            (INTERFACE, "s") => fields.interface = reader.text()?,
            (MEMBER, "s") => fields.member = reader.text()?,
            (ERROR_NAME, "s") => fields.error = reader.text()?,
            (SENDER, "s") => fields.sender = Some(reader.text()?),
            (REPLY_SERIAL, "u") => fields.reply_serial = Some(reader.number()?),
            (SIGNATURE, "g") => fields.signature = reader.signature()?,
            (_, "s" | "o") => drop(reader.text()?),
            (_, "u") => drop(reader.number()?),
            (_, "g") => drop(reader.signature()?),
            _ => return Err("a header field of an unknown type"),
        }
    }
    Ok(fields)
}

/// What a reader says at the end of the bytes.
const SHORT: &str = "a message that ends too early";

struct Reader<'m> {
    bytes: &'m [u8],
    at: usize,
}

impl Reader<'_> {
    fn slice(&mut self, length: usize) -> Result<&[u8], &'static str> {
        let end = self.at.checked_add(length).ok_or(SHORT)?;
        let slice = self.bytes.get(self.at..end).ok_or(SHORT)?;
        self.at = end;
        Ok(slice)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        self.slice(N)?.try_into().map_err(|_| SHORT)
    }

    fn align(&mut self, to: usize) -> Result<(), &'static str> {
        let end = self.at.next_multiple_of(to);
        self.slice(end - self.at).map(drop)
    }

    fn number(&mut self) -> Result<u32, &'static str> {
        self.align(4)?;
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn text(&mut self) -> Result<String, &'static str> {
        let length = usize::try_from(self.number()?).map_err(|_| SHORT)?;
        self.terminated(length)
    }

    fn signature(&mut self) -> Result<String, &'static str> {
        let [length] = self.take()?;
        self.terminated(usize::from(length))
    }

    fn terminated(&mut self, length: usize) -> Result<String, &'static str> {
        let text = self.slice(length)?;
        let text = std::str::from_utf8(text).map_err(|_| "a text that is not UTF-8")?;
        let text = text.to_owned();
        match self.take()? {
            [0] => Ok(text),
            [_] => Err("a text without an end"),
        }
    }
}

fn align(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

/// Lengths of what we send: far below 4 GiB, for names and ids are bounded.
fn size(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn put_number(bytes: &mut Vec<u8>, number: u32) {
    align(bytes, 4);
    bytes.extend_from_slice(&number.to_le_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_number(bytes, size(text.as_bytes()));
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
}

fn put_signature(bytes: &mut Vec<u8>, signature: &str) {
    bytes.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
    bytes.extend_from_slice(signature.as_bytes());
    bytes.push(0);
}

/// An array's length does not count the padding before its first element.
fn put_array(bytes: &mut Vec<u8>, alignment: usize, fill: impl FnOnce(&mut Vec<u8>)) {
    put_number(bytes, 0);
    let at = bytes.len() - 4;
    align(bytes, alignment);
    let start = bytes.len();
    fill(bytes);
    let length = size(&bytes[start..]);
    bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

fn put_field(bytes: &mut Vec<u8>, code: u8, kind: &str, text: &str) {
    align(bytes, 8);
    bytes.push(code);
    put_signature(bytes, kind);
    match kind {
        "g" => put_signature(bytes, text),
        _ => put_text(bytes, text),
    }
}

fn put_variant(bytes: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Text(text) => {
            put_signature(bytes, "s");
            put_text(bytes, text);
        }
        Value::Number(number) => {
            put_signature(bytes, "i");
            put_number(bytes, number.cast_unsigned());
        }
        Value::Flag(flag) => {
            put_signature(bytes, "b");
            put_number(bytes, u32::from(*flag));
        }
        Value::Texts(texts) => {
            put_signature(bytes, "as");
            put_array(bytes, 4, |bytes| {
                texts.iter().for_each(|text| put_text(bytes, text))
            });
        }
        Value::Numbers(numbers) => {
            put_signature(bytes, "au");
            put_array(bytes, 4, |bytes| {
                numbers.iter().for_each(|number| put_number(bytes, *number));
            });
        }
    }
}

/// The other side, for tests.
#[cfg(test)]
mod other_side;
#[cfg(test)]
pub(super) use other_side::{asked, job_removed, refusal, reply};

#[cfg(test)]
mod tests {
    use super::super::BUS;
    use super::*;

    /// As `busctl` sends it, taken from the specification's rules by hand.
    #[test]
    fn a_call_has_the_bytes_of_the_specification() {
        let bytes = call(1, BUS, "Hello", &Body::default());
        let mut want = b"l\x01\x02\x01\0\0\0\0\x01\0\0\0\x6d\0\0\0".to_vec();
        want.extend(b"\x01\x01o\0\x15\0\0\0/org/freedesktop/DBus\0\0\0");
        want.extend(b"\x02\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0");
        want.extend(b"\x03\x01s\0\x05\0\0\0Hello\0\0\0");
        want.extend(b"\x06\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0");
        assert_eq!(bytes.len() % 8, 0);
        assert_eq!(&bytes[..16], &want[..16]);
        assert_eq!(bytes, want);
        let head = bytes[..HEAD].try_into().unwrap();
        assert_eq!(length(head), Ok(bytes.len()));
    }

    #[test]
    fn properties_stand_in_variants_on_their_boundaries() {
        let properties = [("P", Value::Numbers(&[7])), ("D", Value::Texts(&[]))];
        let body = Body::default().text("u").properties(&properties);
        assert_eq!(body.signature, "sa(sv)a(sa(sv))");
        let mut want = b"\x01\0\0\0u\0\0\0".to_vec();
        want.extend(b"\x27\0\0\0\0\0\0\0");
        // (sv): "P", au [7]
        want.extend(b"\x01\0\0\0P\0\x02au\0\0\0\x04\0\0\0\x07\0\0\0");
        want[12..].fill_with(Default::default);
        let bytes = body.bytes;
        assert_eq!(&bytes[..8], &want[..8]);
        let array = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
        assert_eq!(&bytes[12..16], [0; 4], "structs begin on 8");
        assert_eq!(&bytes[16..34], b"\x01\0\0\0P\0\x02au\0\0\0\x04\0\0\0\x07\0");
        // The second begins on 8 again: "D", as []
        assert_eq!(&bytes[40..56], b"\x01\0\0\0D\0\x02as\0\0\0\0\0\0\0");
        assert_eq!(array, 56 - 16);
        assert_eq!(&bytes[56..], [0; 8], "no auxiliary units");
        let flag = Body::default()
            .properties(&[("F", Value::Flag(true))])
            .bytes;
        assert_eq!(&flag[8..20], b"\x01\0\0\0F\0\x01b\0\0\0\0");
        assert_eq!(&flag[20..24], [1, 0, 0, 0], "four bytes long");
    }

    #[test]
    fn answers_refusals_and_ends_of_jobs_are_understood() {
        let text = |text: &str| text.to_owned();
        let table = [
            (
                reply(3, ":1.2", Some("/a/b")),
                Incoming::Reply {
                    serial: 3,
                    sender: Some(text(":1.2")),
                    object: Some(text("/a/b")),
                },
            ),
            (
                refusal(4, "x.Y", "no"),
                Incoming::Refusal {
                    serial: 4,
                    name: text("x.Y"),
                    text: text("no"),
                },
            ),
            (
                job_removed(":1.2", "/job/12", "done"),
                Incoming::JobRemoved {
                    sender: Some(text(":1.2")),
                    job: text("/job/12"),
                    result: text("done"),
                },
            ),
            (call(1, BUS, "Hello", &Body::default()), Incoming::Other),
        ];
        for (bytes, wanted) in table {
            assert_eq!(parse(&bytes), Ok(wanted));
        }
    }

    #[test]
    fn what_is_cut_short_or_changed_is_refused_and_never_believed() {
        let good = job_removed(":1.2", "/job/12", "done");
        for end in 0..good.len() {
            assert!(parse(&good[..end]).is_err(), "{end}");
        }
        // Any byte may be wrong: an error, or another message; no panic and no memory for it.
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = parse(&bad);
                let _ = length(bad[..HEAD].try_into().unwrap());
            }
        }
        let mut huge: [u8; HEAD] = good[..HEAD].try_into().unwrap();
        huge[4..8].fill(0xff);
        assert_eq!(length(huge), Err("a message longer than 64 KiB"));
        huge[0] = b'B';
        assert!(length(huge).is_err());
    }
}
