//! One layer on its way: counters that its download and its unpacking add to.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::seen::{LayerPhase, LayerSeen, WaitSeen};

/// Where a layer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// Not begun, or another pull brings the same layer.
    Turn,
    /// Waits until fewer layers are downloaded at once.
    Permit,
    /// The registry has said "later"; until when stands in the pull's `Waits`.
    Later,
    /// Asked for; what the request waits for stands in the pull's `Waits`.
    Asking,
    /// Its bytes come.
    Receiving,
    /// All bytes came, not all are unpacked.
    Unpacking,
    /// It was here already, or another pull has brought it.
    Exists,
    /// Unpacked and verified.
    Done,
}

const STEPS: [Step; 8] = [
    Step::Turn,
    Step::Permit,
    Step::Later,
    Step::Asking,
    Step::Receiving,
    Step::Unpacking,
    Step::Exists,
    Step::Done,
];

/// Counters of one layer. One task writes what is fetched, one thread what is unpacked; nobody waits.
#[derive(Debug)]
pub struct LayerProgress {
    digest: String,
    /// Digest of its content: what two pulls share.
    content: String,
    size_bytes: u64,
    epoch: Instant,
    step: AtomicU8,
    fetched: AtomicU64,
    unpacked: AtomicU64,
    /// Milliseconds after the epoch since which the network is listened to, plus one; 0: it is not.
    listening: AtomicU64,
    rate: Rate,
    /// Where the bytes come from. Written once or twice, at the beginning.
    source: Mutex<String>,
}

impl LayerProgress {
    /// A layer of a manifest: digest and size of the packed bytes, digest of the content.
    pub fn new(digest: &str, size_bytes: u64, content: &str) -> LayerProgress {
        LayerProgress {
            digest: digest.to_owned(),
            content: content.to_owned(),
            size_bytes,
            epoch: Instant::now(),
            step: AtomicU8::new(Step::Turn as u8),
            fetched: AtomicU64::new(0),
            unpacked: AtomicU64::new(0),
            listening: AtomicU64::new(0),
            rate: Rate::default(),
            source: Mutex::default(),
        }
    }

    /// It has come to `step`.
    pub fn reached(&self, step: Step) {
        self.step.store(step as u8, Relaxed);
    }

    /// Its bytes come from this URL now.
    pub fn comes_from(&self, url: &str) {
        url.clone_into(&mut self.source.lock().unwrap_or_else(PoisonError::into_inner));
        self.reached(Step::Receiving);
    }

    /// From now on it is the network that is waited for, not the disk.
    pub fn listens(&self) {
        self.listening.store(self.now_ms() + 1, Relaxed);
    }

    /// So many packed bytes have come.
    pub fn received(&self, bytes: usize) {
        self.listening.store(0, Relaxed);
        self.fetched.fetch_add(bytes as u64, Relaxed);
        self.rate.add(self.now_ms(), bytes as u64);
    }

    /// So many bytes of its content have been handed to the disk.
    pub fn unpacked(&self, bytes: usize) {
        self.unpacked.fetch_add(bytes as u64, Relaxed);
    }

    /// Digest of its content.
    pub fn content(&self) -> &str {
        &self.content
    }

    /// What is still to come of a content of so many bytes.
    pub fn left_of(&self, bytes: u64) -> u64 {
        match self.step() {
            Step::Exists | Step::Done => 0,
            _ => bytes.saturating_sub(self.unpacked.load(Relaxed)),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn step(&self) -> Step {
        let step = usize::from(self.step.load(Relaxed));
        STEPS.get(step).copied().unwrap_or(Step::Turn)
    }

    /// A copy with rate and silence as of now.
    pub(super) fn seen(&self) -> LayerSeen {
        let now_ms = self.now_ms();
        let step = self.step();
        let waits_for = match step {
            Step::Permit => Some(WaitSeen {
                on: "other layers: as many as may be are being downloaded".to_owned(),
                silent: Duration::ZERO,
                again_in: None,
            }),
            Step::Receiving => match self.listening.load(Relaxed) {
                0 => None,
                since => Some(WaitSeen {
                    on: self.source().clone(),
                    silent: Duration::from_millis((now_ms + 1).saturating_sub(since)),
                    again_in: None,
                }),
            },
            _ => None,
        };
        LayerSeen {
            digest: self.digest.clone(),
            content: self.content.clone(),
            size_bytes: self.size_bytes,
            fetched_bytes: self.fetched.load(Relaxed),
            unpacked_bytes: self.unpacked.load(Relaxed),
            bytes_per_second: self.rate.at(now_ms),
            phase: match step {
                Step::Turn | Step::Permit | Step::Later => LayerPhase::Waiting,
                Step::Asking | Step::Receiving => LayerPhase::Fetching,
                Step::Unpacking => LayerPhase::Unpacking,
                Step::Exists => LayerPhase::Exists,
                Step::Done => LayerPhase::Done,
            },
            waits_for,
        }
    }

    fn source(&self) -> std::sync::MutexGuard<'_, String> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Length of a slot.
const SLOT_MS: u64 = 500;
/// Slots that are kept: the rate is over the last three seconds or so.
const SLOTS: usize = 8;
/// A slot holds its number above and its bytes below: 16 TB in half a second.
const BYTES_BITS: u32 = 43;
const BYTES_MASK: u64 = (1 << BYTES_BITS) - 1;

/// Bytes in the last slots of time. One writer, any readers, no lock.
#[derive(Debug, Default)]
struct Rate {
    slots: [AtomicU64; SLOTS],
}

impl Rate {
    /// Slots count from one, so that an empty one is nobody's.
    fn number(now_ms: u64) -> u64 {
        (now_ms / SLOT_MS + 1) & (u64::MAX >> BYTES_BITS)
    }

    fn slot(&self, number: u64) -> &AtomicU64 {
        &self.slots[usize::try_from(number).unwrap_or(0) % SLOTS]
    }

    fn add(&self, now_ms: u64, bytes: u64) {
        let number = Rate::number(now_ms);
        let slot = self.slot(number);
        let old = slot.load(Relaxed);
        let sum = if old >> BYTES_BITS == number {
            old & BYTES_MASK
        } else {
            0
        };
        let sum = sum.saturating_add(bytes).min(BYTES_MASK);
        slot.store(number << BYTES_BITS | sum, Relaxed);
    }

    /// Bytes a second over the last slots and the current one.
    fn at(&self, now_ms: u64) -> u64 {
        let current = Rate::number(now_ms);
        let before = (SLOTS as u64 - 2).min(current - 1);
        let sum: u64 = (current - before..=current)
            .map(|number| (number, self.slot(number).load(Relaxed)))
            .filter(|(number, value)| value >> BYTES_BITS == *number)
            .map(|(_, value)| value & BYTES_MASK)
            .sum();
        let over_ms = before * SLOT_MS + now_ms % SLOT_MS;
        sum.saturating_mul(1000) / over_ms.max(SLOT_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_seconds() {
        let rate = Rate::default();
        assert_eq!(rate.at(0), 0);
        // 1000 bytes every 100 ms
        for step in 0..100 {
            rate.add(step * 100, 1000);
        }
        let steady = rate.at(9_999);
        assert!((9_900..10_100).contains(&steady), "{steady}");
        let quiet = rate.at(12_000);
        assert!(quiet > 0 && quiet < 10_000, "{quiet}");
        assert_eq!(rate.at(14_000), 0, "long ago");
    }

    #[test]
    fn a_first_piece_is_no_tremendous_rate() {
        let rate = Rate::default();
        rate.add(1, 500);
        assert_eq!(rate.at(1), 1000, "at least half a second is counted");
    }

    #[test]
    fn a_full_slot_stays_full() {
        let rate = Rate::default();
        rate.add(0, u64::MAX);
        rate.add(0, 1);
        assert_eq!(rate.at(499), BYTES_MASK.saturating_mul(1000) / 500);
    }

    #[test]
    fn silence_is_counted_only_while_the_network_is_listened_to() {
        let layer = LayerProgress::new("sha256:a", 10, "b");
        layer.comes_from("https://r.example/x");
        assert_eq!(layer.seen().waits_for, None);
        layer.listens();
        assert_eq!(layer.seen().waits_for.unwrap().on, "https://r.example/x");
        layer.received(4);
        layer.unpacked(9);
        let seen = layer.seen();
        assert_eq!(
            (seen.waits_for, seen.fetched_bytes, seen.unpacked_bytes),
            (None, 4, 9)
        );
        assert_eq!(seen.phase, LayerPhase::Fetching);
        for step in STEPS {
            layer.reached(step);
            assert_eq!(layer.step(), step);
        }
    }
}
