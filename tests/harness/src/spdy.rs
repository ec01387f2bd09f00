//! A SPDY/3.1 client that sends what it is told to, also what no client should.
//!
//! It is written against the specification, not against the daemon: it compresses its headers in
//! one context as the Go client does, and inflates the daemon's.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};

/// What both ends know beforehand: a fact of the specification, stored once in this tree.
const DICTIONARY: &[u8] = include_bytes!("../../../src/streaming/spdy/dictionary.bin");

/// A frame from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// DATA.
    Data {
        /// On which stream.
        stream: u32,
        /// The stream's last.
        fin: bool,
        /// What it carries.
        bytes: Vec<u8>,
    },
    /// SYN_REPLY, with its header block inflated.
    Reply {
        /// To which stream.
        stream: u32,
        /// Count, names and values.
        block: Vec<u8>,
    },
    /// RST_STREAM.
    Reset {
        /// Of which stream.
        stream: u32,
        /// Why.
        status: u32,
    },
    /// PING.
    Ping(u32),
    /// GOAWAY.
    GoAway {
        /// The last stream that was taken.
        last: u32,
        /// Why.
        status: u32,
    },
}

/// The sending direction.
#[derive(Debug)]
pub struct Sender<Io> {
    io: WriteHalf<Io>,
    headers: HeaderWriter,
    next: u32,
}

/// The receiving direction.
#[derive(Debug)]
pub struct Receiver<Io> {
    io: ReadHalf<Io>,
    zlib: Decompress,
}

/// Begins a connection whose handshake is done.
pub fn connect<Io: AsyncRead + AsyncWrite>(io: Io) -> (Sender<Io>, Receiver<Io>) {
    let (read, write) = split(io);
    let sender = Sender {
        io: write,
        headers: HeaderWriter::default(),
        next: 1,
    };
    (
        sender,
        Receiver {
            io: read,
            zlib: Decompress::new(true),
        },
    )
}

/// A connection's header compression.
#[derive(Debug)]
pub struct HeaderWriter(Compress);

impl Default for HeaderWriter {
    fn default() -> Self {
        let mut zlib = Compress::new(Compression::best(), true);
        zlib.set_dictionary(DICTIONARY)
            .expect("the dictionary is taken at the beginning");
        Self(zlib)
    }
}

impl HeaderWriter {
    /// The next block, of whatever bytes.
    pub fn compress(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut block = Vec::with_capacity(bytes.len() + 1024);
        self.0
            .compress_vec(bytes, &mut block, FlushCompress::Sync)
            .expect("headers are deflated");
        block
    }
}

/// Names and values as they stand in a block before it is compressed.
pub fn header_list(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut list = number(headers.len()).to_vec();
    for (name, value) in headers {
        for text in [name, value] {
            list.extend(number(text.len()));
            list.extend(text.as_bytes());
        }
    }
    list
}

fn number(length: usize) -> [u8; 4] {
    u32::try_from(length)
        .expect("a length of 32 bits")
        .to_be_bytes()
}

/// A control frame of whatever type.
pub fn control(kind: u16, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80, 3];
    frame.extend(kind.to_be_bytes());
    frame.push(flags);
    frame.extend(&number(body.len())[1..]);
    frame.extend(body);
    frame
}

/// SYN_STREAM with a block as it is.
pub fn syn_stream(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    let body = [&stream.to_be_bytes()[..], &[0; 6], block].concat();
    control(1, flags, &body)
}

/// DATA.
pub fn data(stream: u32, fin: bool, bytes: &[u8]) -> Vec<u8> {
    let mut frame = stream.to_be_bytes().to_vec();
    frame.push(u8::from(fin));
    frame.extend(&number(bytes.len())[1..]);
    frame.extend(bytes);
    frame
}

impl<Io: AsyncRead + AsyncWrite> Sender<Io> {
    /// Opens a stream; its id.
    pub async fn open(&mut self, headers: &[(&str, &str)]) -> u32 {
        let stream = self.next;
        self.next += 2;
        let block = self.headers.compress(&header_list(headers));
        self.raw(&syn_stream(stream, 0, &block)).await;
        stream
    }

    /// Opens the streams of these `streamtype`s.
    pub async fn open_types(&mut self, types: &[&str]) -> Vec<u32> {
        let mut streams = Vec::new();
        for kind in types {
            streams.push(self.open(&[("streamtype", kind)]).await);
        }
        streams
    }

    /// The connection's header compression, for frames of the test's own.
    pub fn headers(&mut self) -> &mut HeaderWriter {
        &mut self.headers
    }

    /// Sends bytes of a stream in one frame.
    pub async fn data(&mut self, stream: u32, fin: bool, bytes: &[u8]) {
        self.raw(&data(stream, fin, bytes)).await;
    }

    /// Sends PING.
    pub async fn ping(&mut self, id: u32) {
        self.raw(&control(6, 0, &id.to_be_bytes())).await;
    }

    /// Sends RST_STREAM with CANCEL.
    pub async fn reset(&mut self, stream: u32) {
        let body = [stream.to_be_bytes(), 5_u32.to_be_bytes()].concat();
        self.raw(&control(3, 0, &body)).await;
    }

    /// Sends bytes as they are. That the server has closed the connection is not the sender's
    /// business: the receiver sees it.
    pub async fn raw(&mut self, bytes: &[u8]) {
        let _ = self.io.write_all(bytes).await;
    }

    /// Ends the sending direction.
    pub async fn close(&mut self) {
        let _ = self.io.shutdown().await;
    }
}

impl<Io: AsyncRead + AsyncWrite> Receiver<Io> {
    /// The next frame; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 8];
        self.io.read_exact(&mut head).await.ok()?;
        let [a, b, c, d, flags, x, y, z] = head;
        let mut body = vec![0; u32::from_be_bytes([0, x, y, z]) as usize];
        self.io.read_exact(&mut body).await.ok()?;
        let first = u32::from_be_bytes([a, b, c, d]);
        if first >> 31 == 0 {
            return Some(Frame::Data {
                stream: first,
                fin: flags & 1 != 0,
                bytes: body,
            });
        }
        let word = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().expect("4 bytes"));
        Some(match first & 0x7fff_ffff {
            0x3_0002 => Frame::Reply {
                stream: word(0),
                block: self.inflate(&body[4..]),
            },
            0x3_0003 => Frame::Reset {
                stream: word(0),
                status: word(4),
            },
            0x3_0006 => Frame::Ping(word(0)),
            0x3_0007 => Frame::GoAway {
                last: word(0),
                status: word(4),
            },
            other => panic!("the server sent a frame {other:#x} that a server does not send"),
        })
    }

    /// Every frame until the end of the connection.
    pub async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }

    fn inflate(&mut self, block: &[u8]) -> Vec<u8> {
        let begin = self.zlib.total_in();
        let mut list = Vec::with_capacity(1024);
        let result = self
            .zlib
            .decompress_vec(block, &mut list, FlushDecompress::Sync);
        if result.is_err_and(|error| error.needs_dictionary().is_some()) {
            self.zlib
                .set_dictionary(DICTIONARY)
                .expect("the dictionary is asked for");
            let read = usize::try_from(self.zlib.total_in() - begin).expect("a block's length");
            self.zlib
                .decompress_vec(&block[read..], &mut list, FlushDecompress::Sync)
                .expect("the server's headers can be inflated");
        }
        let read = self.zlib.total_in() - begin;
        assert_eq!(
            read,
            block.len() as u64,
            "the server's header block is read to its end"
        );
        list
    }
}

/// All bytes of a stream's DATA frames, and whether the last one had FIN.
pub fn stream_of(frames: &[Frame], wanted: u32) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    let mut ended = false;
    for frame in frames {
        if let Frame::Data { stream, fin, bytes } = frame
            && *stream == wanted
        {
            assert!(!ended, "stream {wanted} goes on after its FIN");
            all.extend(bytes);
            ended = *fin;
        }
    }
    (all, ended)
}
