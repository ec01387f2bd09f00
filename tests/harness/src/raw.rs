//! gRPC calls of bytes, which need not be a message, and changes to messages on the wire that no
//! typed client could make.

use std::path::Path;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use hyper_util::rt::TokioIo;
pub use prost::Message;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Longest that any call may take to be answered, good or bad.
const ANSWER: Duration = Duration::from_secs(60);

/// A client that knows no messages.
#[derive(Debug, Clone)]
pub struct Raw(Channel);

impl Raw {
    /// Connects as a kubelet does.
    pub async fn connect(socket: &Path) -> Raw {
        let socket = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        Raw(endpoint.connect_with_connector(connector).await.unwrap())
    }

    /// Calls `service/method` with these bytes and gives those of the first answer.
    ///
    /// # Panics
    /// When no answer comes: a daemon that hangs has failed the test.
    pub async fn call(&self, method: &str, message: Vec<u8>) -> Result<Bytes, Status> {
        let mut grpc = Grpc::new(self.0.clone());
        let path = format!("/runtime.v1.{method}").parse().unwrap();
        let answer = async {
            grpc.ready().await.unwrap();
            let request = Request::new(Bytes::from(message));
            let reply = grpc.server_streaming(request, path, Plain).await?;
            Ok(reply.into_inner().message().await?.unwrap_or_default())
        };
        tokio::time::timeout(ANSWER, answer)
            .await
            .unwrap_or_else(|_| panic!("{method}: no answer within {ANSWER:?}"))
    }
}

#[derive(Debug, Default)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Plain;
    type Decoder = Plain;

    fn encoder(&mut self) -> Plain {
        Plain
    }

    fn decoder(&mut self) -> Plain {
        Plain
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// One field of an encoded message.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    number: u64,
    value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Number(u64),
    /// Wire types 1 and 5: their bytes, not looked into.
    Fixed(Vec<u8>),
    /// A string, bytes, or a message: the wire does not say which.
    Bytes(Vec<u8>),
}

/// Every message that is `message` without one of its fields, at any depth; with the path of the
/// field's numbers.
pub fn without_each_field(message: &[u8]) -> Vec<(String, Vec<u8>)> {
    changed(message, "", &|_| vec![None])
}

/// Every message that is `message` with one string, at any depth, replaced by each of `texts`.
pub fn with_each_text(message: &[u8], texts: &[&[u8]]) -> Vec<(String, Vec<u8>)> {
    changed(message, "", &|value| match value {
        Value::Bytes(_) => texts
            .iter()
            .map(|text| Some(Value::Bytes(text.to_vec())))
            .collect(),
        Value::Number(_) | Value::Fixed(_) => Vec::new(),
    })
}

/// Every message that is `message` with one number, at any depth, replaced by each of `numbers`.
pub fn with_each_number(message: &[u8], numbers: &[u64]) -> Vec<(String, Vec<u8>)> {
    changed(message, "", &|value| match value {
        Value::Number(_) => numbers
            .iter()
            .map(|number| Some(Value::Number(*number)))
            .collect(),
        Value::Bytes(_) | Value::Fixed(_) => Vec::new(),
    })
}

fn changed(
    message: &[u8],
    path: &str,
    changes: &dyn Fn(&Value) -> Vec<Option<Value>>,
) -> Vec<(String, Vec<u8>)> {
    let fields = parse(message).unwrap_or_default();
    let mut all = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let path = format!("{path}.{}", field.number);
        let put = |value: Option<Value>| {
            let mut fields = fields.clone();
            match value {
                Some(value) => fields[index].value = value,
                None => drop(fields.remove(index)),
            }
            write(&fields)
        };
        all.extend(
            changes(&field.value)
                .into_iter()
                .map(|value| (path.clone(), put(value))),
        );
        if let Value::Bytes(inner) = &field.value {
            let inner = changed(inner, &path, changes).into_iter();
            all.extend(inner.map(|(path, inner)| (path, put(Some(Value::Bytes(inner))))));
        }
    }
    all
}

fn parse(mut message: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while message.has_remaining() {
        let key = varint(&mut message)?;
        let take = |message: &mut &[u8], length: usize| {
            (length <= message.len()).then(|| message.copy_to_bytes(length).to_vec())
        };
        let value = match key & 7 {
            0 => Value::Number(varint(&mut message)?),
            1 => Value::Fixed(take(&mut message, 8)?),
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                Value::Bytes(take(&mut message, length)?)
            }
            5 => Value::Fixed(take(&mut message, 4)?),
            _ => return None,
        };
        let number = key >> 3;
        // Text parsed as a message has field numbers that no message here has.
        if !(1..=64).contains(&number) {
            return None;
        }
        fields.push(Field { number, value });
    }
    Some(fields)
}

fn write(fields: &[Field]) -> Vec<u8> {
    let mut message = Vec::new();
    for Field { number, value } in fields {
        match value {
            Value::Number(value) => {
                put_varint(&mut message, number << 3);
                put_varint(&mut message, *value);
            }
            Value::Fixed(bytes) => {
                let kind = if bytes.len() == 8 { 1 } else { 5 };
                put_varint(&mut message, number << 3 | kind);
                message.extend(bytes);
            }
            Value::Bytes(bytes) => {
                put_varint(&mut message, number << 3 | 2);
                put_varint(&mut message, bytes.len() as u64);
                message.extend(bytes);
            }
        }
    }
    message
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = message.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_varint(message: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = (value & 0x7f).to_le_bytes();
        value >>= 7;
        message.push(if value == 0 { low } else { low | 0x80 });
        if value == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_loses_and_changes_each_of_its_fields() {
        // {1: 150, 2: "zz", 3: {1: 5}}
        let message = b"\x08\x96\x01\x12\x02zz\x1a\x02\x08\x05";
        assert_eq!(write(&parse(message).unwrap()), message);
        let without: Vec<String> = without_each_field(message)
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        assert_eq!(without, [".1", ".2", ".3", ".3.1"]);
        let texts = with_each_text(message, &[b"\xff"]);
        assert_eq!(texts[0].1, b"\x08\x96\x01\x12\x01\xff\x1a\x02\x08\x05");
        let numbers = with_each_number(message, &[u64::MAX]);
        assert_eq!(numbers.len(), 2);
        assert_eq!(numbers[1].0, ".3.1");
    }
}
