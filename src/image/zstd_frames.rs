//! zstd frame by frame, so that the memory of all layers that are unpacked at once has a bound.
//!
//! A frame says in its header how far back it may refer; its decoder keeps so much in memory. Up to
//! 8 MiB every decoder must have (RFC 8878 section 3.1.1.1.2), and what common tools write needs no
//! more. `zstd --long` asks for up to 128 MiB; that one layer of the whole daemon has at a time.
//! zstd:chunked is many frames; each is looked at for itself.

use std::io::{self, BufRead, Read};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

/// The largest window, 2^27 bytes: what `zstd --long` makes, and libzstd's own bound.
const WINDOW_LOG_MAX: u32 = 27;
/// Windows up to this many bytes need no permission.
const USUAL_WINDOW: u64 = 8 << 20;

/// First bytes of a frame, and of one that is skipped, whose lowest four bits are free (RFC 8878
/// sections 3.1.1 and 3.1.2).
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const SKIPPED: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];

/// Whether content that begins like this is packed with zstd.
pub(super) fn is_zstd(start: &[u8]) -> bool {
    start.starts_with(&MAGIC) || is_skipped(start)
}

fn is_skipped(start: &[u8]) -> bool {
    start.len() >= 4 && start[0] & 0xf0 == SKIPPED[0] && start[1..4] == SKIPPED[1..]
}

/// The daemon's permissions for large windows. Layers and whole archives have one each, because a
/// layer is unpacked while the archive that it comes from is.
#[derive(Debug)]
pub(super) struct Windows {
    layers: Arc<Semaphore>,
    archives: Arc<Semaphore>,
}

impl Default for Windows {
    fn default() -> Windows {
        Windows {
            layers: Arc::new(Semaphore::new(1)),
            archives: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Windows {
    /// For a layer. Who is to wait for a window gives up when `stop` says so.
    pub(super) fn of_layer(&self, stop: CancellationToken) -> LargeWindow {
        LargeWindow {
            permits: Arc::clone(&self.layers),
            stop,
        }
    }

    /// For an archive that is packed as a whole.
    pub(super) fn of_archive(&self, stop: CancellationToken) -> LargeWindow {
        LargeWindow {
            permits: Arc::clone(&self.archives),
            stop,
        }
    }
}

/// Where a stream asks for its large windows.
#[derive(Debug, Clone)]
pub(super) struct LargeWindow {
    permits: Arc<Semaphore>,
    stop: CancellationToken,
}

impl LargeWindow {
    /// Waits until no other has one. Blocking, on a thread that knows of no runtime: storage reads
    /// a layer on one of its own.
    fn wait(&self) -> io::Result<OwnedSemaphorePermit> {
        let permits = Arc::clone(&self.permits);
        if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
            return Ok(permit);
        }
        let permit = async {
            tokio::select! {
                permit = permits.acquire_owned() => permit.ok(),
                () = self.stop.cancelled() => None,
            }
        };
        block_on(permit)
            .ok_or_else(|| io::Error::other("cancelled while it waited for memory to inflate"))
    }
}

/// Wakes a thread that waits for a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future that needs no runtime, only to be woken.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// What the frames of a stream hold, one after the other.
pub(super) struct Frames<R> {
    source: R,
    decoder: Decoder<'static>,
    /// Bytes of the current frame's header that were looked at and not decoded yet.
    head: Vec<u8>,
    between: bool,
    window: LargeWindow,
    held: Option<OwnedSemaphorePermit>,
}

/// What a frame's first bytes say.
#[derive(Debug, PartialEq)]
enum Head {
    /// More than these are needed.
    Short,
    /// The window, in bytes; 0 where there is none, or it is no frame: libzstd says so.
    Window(u64),
}

impl<R: BufRead> Frames<R> {
    pub(super) fn new(source: R, window: LargeWindow) -> io::Result<Frames<R>> {
        Ok(Frames {
            source,
            decoder: decoder()?,
            head: Vec::new(),
            between: true,
            window,
            held: None,
        })
    }

    pub(super) fn get_mut(&mut self) -> &mut R {
        &mut self.source
    }

    /// Looks at the next frame's header. `false`: the stream is at its end.
    fn begin(&mut self) -> io::Result<bool> {
        while window_of(&self.head) == Head::Short {
            let Some(&byte) = self.source.fill_buf()?.first() else {
                // what is cut off is libzstd's to tell
                self.between = self.head.is_empty();
                return Ok(!self.between);
            };
            self.head.push(byte);
            self.source.consume(1);
        }
        if let Head::Window(bytes) = window_of(&self.head)
            && bytes > USUAL_WINDOW
            && bytes <= 1 << WINDOW_LOG_MAX
        {
            self.held = Some(self.window.wait()?);
        }
        self.between = false;
        Ok(true)
    }

    fn end(&mut self) -> io::Result<()> {
        self.between = true;
        if self.held.is_some() {
            // the decoder would keep the large window for the frames that follow
            self.decoder = decoder()?;
            self.held = None;
            return Ok(());
        }
        self.decoder.reinit()
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.between && !self.begin()? {
                return Ok(0);
            }
            let from_head = !self.head.is_empty();
            let input = match from_head {
                true => self.head.as_slice(),
                false => self.source.fill_buf()?,
            };
            let ended = input.is_empty();
            let mut input = InBuffer::around(input);
            let mut output = OutBuffer::around(&mut *buffer);
            let hint = self.decoder.run(&mut input, &mut output)?;
            let (used, written) = (input.pos(), output.pos());
            match from_head {
                true => drop(self.head.drain(..used)),
                false => self.source.consume(used),
            }
            if hint == 0 {
                self.end()?;
            } else if ended && written == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "incomplete frame",
                ));
            }
            if written > 0 {
                return Ok(written);
            }
        }
    }
}

fn decoder() -> io::Result<Decoder<'static>> {
    let mut decoder = Decoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
    Ok(decoder)
}

/// The window that a frame which begins like this needs (RFC 8878 section 3.1.1.1).
fn window_of(head: &[u8]) -> Head {
    let Some((magic, rest)) = head.split_at_checked(4) else {
        return Head::Short;
    };
    if magic != MAGIC {
        return Head::Window(0);
    }
    let Some((&descriptor, rest)) = rest.split_first() else {
        return Head::Short;
    };
    let single_segment = descriptor & 0x20 != 0;
    if !single_segment {
        let Some(&window) = rest.first() else {
            return Head::Short;
        };
        let base = 1_u64 << (10 + (window >> 3));
        return Head::Window(base + base / 8 * u64::from(window & 7));
    }
    // without a window of its own the content is the window; its size follows the dictionary's id
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let length = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let Some(size) = rest.get(dictionary..dictionary + length) else {
        return Head::Short;
    };
    let mut bytes = [0; 8];
    bytes[..length].copy_from_slice(size);
    let size = u64::from_le_bytes(bytes);
    Head::Window(if length == 2 { size + 256 } else { size })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn frame(content: &[u8], window_log: u32, sized: bool) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        if sized {
            encoder
                .set_pledged_src_size(Some(content.len() as u64))
                .unwrap();
        }
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn content() -> Vec<u8> {
        (0..100_000_u32).flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn a_frame_s_window_is_read_from_its_first_bytes() {
        let content = content();
        let size = content.len() as u64;
        let skipped = [0x5a, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];
        let table = [
            (frame(&content, 20, false), 1 << 20),
            (frame(&content, 27, false), 1 << 27),
            (frame(&content, 27, true), size),
            (frame(&content[..100], 20, true), 100),
            (frame(&content[..1000], 20, true), 1000),
            // 1 KiB and seven eighths of it, the least and its most
            ([&MAGIC[..], &[0, 7]].concat(), 1024 + 7 * 128),
            ([&MAGIC[..], &[0, 0xff]].concat(), (1 << 41) + 7 * (1 << 38)),
            ([&MAGIC[..], &[0xe3], &[0xff; 12]].concat(), u64::MAX),
            (skipped.to_vec(), 0),
            (b"no frame".to_vec(), 0),
        ];
        for (bytes, want) in table {
            let shown = &bytes[..bytes.len().min(18)];
            assert_eq!(window_of(shown), Head::Window(want), "{shown:x?}");
            for short in 0..4 {
                assert_eq!(window_of(&bytes[..short]), Head::Short);
            }
        }
        assert_eq!(window_of(&MAGIC), Head::Short);
        assert_eq!(
            window_of(&[&MAGIC[..], &[0xe3, 1, 2]].concat()),
            Head::Short
        );
    }

    #[test]
    fn a_large_window_is_held_for_its_frame_alone() {
        let content = content();
        let windows = Windows::default();
        let mut packed = frame(&content, 20, false);
        packed.extend([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
        packed.extend(frame(&content, 27, false));
        packed.extend(frame(&content, 20, false));
        let window = windows.of_layer(CancellationToken::new());
        let mut frames = Frames::new(io::BufReader::with_capacity(7, &packed[..]), window).unwrap();
        let mut read = Vec::new();
        let mut held = Vec::new();
        let mut piece = [0; 1000];
        loop {
            let count = frames.read(&mut piece).unwrap();
            if count == 0 {
                break;
            }
            read.extend_from_slice(&piece[..count]);
            held.push(windows.layers.available_permits() == 0);
        }
        assert!(read == content.repeat(3));
        held.dedup();
        assert_eq!(held, [false, true, false]);
    }

    #[test]
    fn a_frame_that_is_cut_off_or_followed_by_something_else_is_an_error() {
        let whole = frame(&content(), 20, false);
        let read = |packed: &[u8]| {
            let window = Windows::default().of_layer(CancellationToken::new());
            let mut content = Vec::new();
            let mut frames = Frames::new(packed, window).unwrap();
            frames.read_to_end(&mut content).map(|_| content)
        };
        assert!(read(&whole).unwrap() == content());
        assert!(read(&[]).unwrap().is_empty());
        for length in [1, 4, 5, 100, whole.len() - 1] {
            let error = read(&whole[..length]).unwrap_err();
            assert_eq!(error.to_string(), "incomplete frame", "{length}");
        }
        read(&[&whole[..], b"more"].concat()).unwrap_err();
        // over the bound, whoever waits
        read(&[&MAGIC[..], &[0, 18 << 3, 1, 0, 0]].concat()).unwrap_err();
    }

    #[test]
    fn who_waits_for_a_window_gets_it_next_or_is_stopped() {
        let windows = Windows::default();
        let window = |stop: &CancellationToken| windows.of_layer(stop.clone());
        let stop = CancellationToken::new();
        let held = window(&stop).wait().unwrap();
        // an archive's does not wait for a layer's
        let archive = windows.of_archive(stop.clone()).wait().unwrap();
        let stopped = CancellationToken::new();
        let [given_up, next] = [&stopped, &stop].map(|stop| {
            let waiting = window(stop);
            thread::spawn(move || waiting.wait().map(drop))
        });
        stopped.cancel();
        given_up.join().unwrap().unwrap_err();
        drop((held, archive));
        next.join().unwrap().unwrap();
        drop(window(&stopped).wait().unwrap());
    }
}
