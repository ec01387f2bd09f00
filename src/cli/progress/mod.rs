//! How the progress of pulls is shown: bars on a terminal (`bars`), else lines (`lines`).
//!
//! Progress goes to standard error, so that standard output holds the answer alone.

mod bars;
mod lines;

use std::io::{IsTerminal, Write};

use cricket_proto::admin::{Pull, PullLayer, PullLayerPhase, PullPhase, PullWait};

use super::amount::{bytes, time};
pub(super) use bars::{Screen, size};
pub(super) use lines::Lines;

/// Shorter silences are not worth a word.
const WORTH_TELLING_MS: u64 = 2_000;

/// Sums over the layers of a pull that were not here already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Packed bytes to be fetched.
    pub size: u64,
    /// Packed bytes that came.
    pub fetched: u64,
    /// Packed bytes a second.
    pub rate: u64,
}

impl Totals {
    pub(super) fn of(pull: &Pull) -> Totals {
        let mut totals = Totals::default();
        for layer in &pull.layers {
            if layer.phase() == PullLayerPhase::LayerExists {
                continue;
            }
            totals.size = totals.size.saturating_add(layer.size_bytes);
            totals.fetched = totals.fetched.saturating_add(fetched(layer));
            totals.rate = totals.rate.saturating_add(layer.bytes_per_second);
        }
        totals
    }

    /// `X of Y, Z/s, T left`, as far as it is known.
    pub(super) fn words(self) -> String {
        let mut words = format!("{} of {}", bytes(self.fetched), bytes(self.size));
        if self.rate > 0 {
            words.push_str(&format!(", {}/s", bytes(self.rate)));
        }
        if let Some(left) = self.left_ms() {
            words.push_str(&format!(", {} left", time(left)));
        }
        words
    }

    /// Time until all bytes have come, at this rate.
    pub(super) fn left_ms(self) -> Option<u64> {
        let missing = self.size.saturating_sub(self.fetched);
        missing
            .saturating_mul(1000)
            .checked_div(self.rate)
            .filter(|_| missing > 0)
    }
}

/// A layer that another pull has brought counts as fetched.
fn fetched(layer: &PullLayer) -> u64 {
    match layer.phase() {
        PullLayerPhase::LayerDone => layer.size_bytes,
        _ => layer.fetched_bytes.min(layer.size_bytes),
    }
}

/// Whether the pull has ended.
pub(super) fn is_over(pull: &Pull) -> bool {
    use PullPhase::{PullCancelled, PullDone, PullFailed};
    matches!(pull.phase(), PullDone | PullFailed | PullCancelled)
}

/// A pull's phase in a word or two.
pub(super) fn phase(pull: &Pull) -> &'static str {
    match pull.phase() {
        PullPhase::PullWaiting => "waiting",
        PullPhase::PullResolving => "resolving",
        PullPhase::PullVerifying => "verifying trust",
        PullPhase::PullFetching => "fetching",
        PullPhase::PullRecording => "recording",
        PullPhase::PullDone => "done",
        PullPhase::PullFailed => "failed",
        PullPhase::PullCancelled => "cancelled",
    }
}

/// A layer's phase in a word or two.
pub(super) fn layer_phase(layer: &PullLayer) -> &'static str {
    match layer.phase() {
        PullLayerPhase::LayerWaiting => "waiting",
        PullLayerPhase::LayerFetching => "fetching",
        PullLayerPhase::LayerUnpacking => "unpacking",
        PullLayerPhase::LayerExists => "here already",
        PullLayerPhase::LayerDone => "done",
    }
}

/// What is waited for, where that has lasted long enough to be told, or will last.
pub(super) fn silence(wait: &PullWait) -> Option<String> {
    if let Some(again_in_ms) = wait.again_in_ms {
        let again = time(again_in_ms);
        return Some(format!("asked again in {again}, as it wishes: {}", wait.on));
    }
    (wait.silent_ms >= WORTH_TELLING_MS)
        .then(|| format!("{} without a byte from {}", time(wait.silent_ms), wait.on))
}

/// Twelve digits of a digest, as other tools show it.
pub(super) fn short(digest: &str) -> &str {
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    hex.get(..12).unwrap_or(hex)
}

/// Shows one pull on standard error, in the way that suits it.
#[derive(Debug)]
pub(super) enum View {
    /// Nothing.
    Quiet,
    /// A terminal.
    Bars(Screen),
    /// Anything else.
    Lines(Lines),
}

impl View {
    pub(super) fn of_stderr(quiet: bool) -> View {
        match quiet {
            true => View::Quiet,
            false if std::io::stderr().is_terminal() => View::Bars(Screen::default()),
            false => View::Lines(Lines::default()),
        }
    }

    /// Shows the pull as it is now.
    pub(super) fn show(&mut self, pull: &Pull) {
        match self {
            View::Quiet => {}
            View::Bars(screen) => {
                let size = bars::size(&std::io::stderr());
                say(&screen.draw(&bars::frame(pull, size), size));
            }
            View::Lines(lines) => say(&lines.of(pull)),
        }
    }

    /// Leaves the terminal clean for what is said last.
    pub(super) fn end(&mut self) {
        if let View::Bars(screen) = self {
            say(&screen.clear());
        }
    }
}

/// Writes to standard error; that nobody reads it is no error.
fn say(text: &str) {
    let mut out = std::io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
pub(super) mod samples {
    use super::*;

    /// A layer with a digest of this digit.
    pub fn layer(digit: char, phase: PullLayerPhase, fetched: u64, size: u64) -> PullLayer {
        PullLayer {
            digest: format!("sha256:{}", digit.to_string().repeat(64)),
            size_bytes: size,
            fetched_bytes: fetched,
            phase: phase.into(),
            ..PullLayer::default()
        }
    }

    /// A pull in the middle.
    pub fn pull() -> Pull {
        let mut layers = vec![
            layer('a', PullLayerPhase::LayerExists, 0, 7_000_000),
            layer('b', PullLayerPhase::LayerDone, 10_000_000, 10_000_000),
            layer('c', PullLayerPhase::LayerFetching, 5_000_000, 20_000_000),
            layer('d', PullLayerPhase::LayerFetching, 1_000_000, 10_000_000),
            layer('e', PullLayerPhase::LayerWaiting, 0, 10_000_000),
        ];
        layers[2].bytes_per_second = 2_000_000;
        layers[3].waits_for = Some(PullWait {
            on: "https://r.example/v2/app/blobs/sha256:dd".into(),
            silent_ms: 12_300,
            again_in_ms: None,
        });
        Pull {
            number: 3,
            reference: "r.example/app:1".into(),
            phase: PullPhase::PullFetching.into(),
            elapsed_ms: 4_200,
            fetched_bytes: 16_000_000,
            callers: vec!["pod web/nginx".into()],
            waits_for: layers[3].waits_for.clone().into_iter().collect(),
            layers,
            ..Pull::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_here_already_is_not_counted() {
        let totals = Totals::of(&samples::pull());
        assert_eq!(
            (totals.size, totals.fetched, totals.rate),
            (50_000_000, 16_000_000, 2_000_000)
        );
        assert_eq!(totals.words(), "16.0MB of 50.0MB, 2.00MB/s, 17s left");
    }

    #[test]
    fn nothing_is_promised_without_a_rate_and_no_size_overflows() {
        let mut pull = samples::pull();
        pull.layers
            .iter_mut()
            .for_each(|layer| layer.bytes_per_second = 0);
        assert_eq!(Totals::of(&pull).words(), "16.0MB of 50.0MB");
        pull.layers
            .iter_mut()
            .for_each(|layer| layer.size_bytes = u64::MAX);
        assert_eq!(Totals::of(&pull).size, u64::MAX);
    }
}
