//! As much of HTTP/1.1 as a registry needs, both ends, one request a connection.
//!
//! No client or server crate: a fixture that is to misbehave must own every byte it writes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// Longest head line that is read; registries' own are far below.
const LINE_MAX: u64 = 64 * 1024;

/// What a client asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// GET, HEAD, …
    pub method: String,
    /// Path with the query.
    pub target: String,
    /// In order; names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// The first header of that (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// What a server answered.
#[derive(Debug)]
pub struct Response {
    /// Such as 201.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// As sent; a chunked one is not decoded.
    pub body: Vec<u8>,
}

/// Sends one request with `body` and reads the answer to its end.
pub fn call(
    stream: TcpStream,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Response> {
    let mut head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {}\r\n",
        stream.peer_addr()?
    );
    head.push_str(&format!(
        "Content-Length: {}\r\nConnection: close\r\n",
        body.len()
    ));
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    (&stream).write_all(head.as_bytes())?;
    (&stream).write_all(body)?;
    let mut reader = BufReader::new(&stream);
    let (first, headers) = head_lines(&mut reader)?;
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("not an answer: {first:?}")))?;
    let mut body = Vec::new();
    reader.read_to_end(&mut body)?;
    Ok(Response {
        status,
        headers,
        body,
    })
}

/// Reads a request's head; `None` when the client closed instead.
pub fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let (first, headers) = head_lines(reader)?;
    let mut words = first.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Ok(None);
    };
    Ok(Some(Request {
        method: method.into(),
        target: target.into(),
        headers,
    }))
}

fn head_lines(reader: &mut impl BufRead) -> io::Result<(String, Vec<(String, String)>)> {
    let mut line = || -> io::Result<String> {
        let mut line = String::new();
        reader.by_ref().take(LINE_MAX).read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    };
    let first = line()?;
    let mut headers = Vec::new();
    loop {
        let next = line()?;
        let Some((name, value)) = next.split_once(':') else {
            break;
        };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    Ok((first, headers))
}
