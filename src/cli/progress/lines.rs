//! Progress where there is no terminal: a line for each turn, and a total now and then.

use std::collections::HashMap;

use cricket_proto::admin::{Pull, PullLayerPhase};

use super::{Totals, is_over, phase, short, silence};
use crate::cli::amount::{bytes, time};

/// Between two totals.
const TOTAL_EVERY_MS: u64 = 5_000;

/// What has been said of each pull.
#[derive(Debug, Default)]
pub struct Lines {
    pulls: HashMap<u64, Said>,
}

#[derive(Debug, Default)]
struct Said {
    phase: Option<i32>,
    listed: bool,
    /// Of each layer, whether its end was told.
    layers: Vec<bool>,
    total_ms: u64,
}

impl Lines {
    /// What is new of a pull, each line with its reference.
    pub fn of(&mut self, pull: &Pull) -> String {
        let said = self.pulls.entry(pull.number).or_default();
        let mut news = Vec::new();
        if !is_over(pull) {
            said.layers(pull, &mut news);
            said.total(pull, &mut news);
        }
        if said.phase != Some(pull.phase) {
            let listed = pull.phase() == cricket_proto::admin::PullPhase::PullFetching;
            if !listed {
                news.push(turn(pull));
                (said.listed, said.layers) = (false, Vec::new());
            }
            said.phase = Some(pull.phase);
        }
        let line = |told: String| format!("{}: {told}\n", pull.reference);
        news.into_iter().map(line).collect()
    }

    /// Forgets what is not among `pulls`, and takes those that ended before as told.
    pub fn keep(&mut self, pulls: &[Pull], first: bool) {
        self.pulls
            .retain(|number, _| pulls.iter().any(|pull| pull.number == *number));
        for pull in pulls.iter().filter(|pull| first && is_over(pull)) {
            self.pulls.entry(pull.number).or_default().phase = Some(pull.phase);
        }
    }
}

fn turn(pull: &Pull) -> String {
    match pull.outcome.as_str() {
        "" => phase(pull).to_owned(),
        outcome => format!("{} after {}: {outcome}", phase(pull), time(pull.elapsed_ms)),
    }
}

impl Said {
    /// The list of layers once, and then the end of each.
    fn layers(&mut self, pull: &Pull, news: &mut Vec<String>) {
        if pull.layers.is_empty() {
            return;
        }
        if !self.listed {
            self.listed = true;
            self.total_ms = pull.elapsed_ms;
            let mut here = 0;
            for layer in &pull.layers {
                let exists = layer.phase() == PullLayerPhase::LayerExists;
                here += usize::from(exists);
                self.layers.push(exists);
            }
            let (count, size) = (pull.layers.len(), bytes(Totals::of(pull).size));
            news.push(format!(
                "fetching {} of {count} layers, {size}",
                count - here
            ));
        }
        for (told, layer) in self.layers.iter_mut().zip(&pull.layers) {
            let end = match layer.phase() {
                PullLayerPhase::LayerDone => "done",
                PullLayerPhase::LayerExists => "here already",
                _ => continue,
            };
            if !std::mem::replace(told, true) {
                let size = bytes(layer.size_bytes);
                news.push(format!("layer {} {end}, {size}", short(&layer.digest)));
            }
        }
    }

    /// How far it is and what it waits for.
    fn total(&mut self, pull: &Pull, news: &mut Vec<String>) {
        if pull.elapsed_ms < self.total_ms + TOTAL_EVERY_MS {
            return;
        }
        self.total_ms = pull.elapsed_ms;
        if !pull.layers.is_empty() {
            news.push(Totals::of(pull).words());
        }
        news.extend(pull.waits_for.iter().filter_map(silence));
    }
}

#[cfg(test)]
mod tests {
    use cricket_proto::admin::PullPhase;

    use super::super::samples;
    use super::*;

    #[test]
    fn every_turn_is_told_once_and_a_total_every_five_seconds() {
        let mut lines = Lines::default();
        let mut pull = Pull {
            layers: Vec::new(),
            waits_for: Vec::new(),
            ..samples::pull()
        };
        pull.set_phase(PullPhase::PullResolving);
        assert_eq!(lines.of(&pull), "r.example/app:1: resolving\n");
        assert_eq!(lines.of(&pull), "");
        let mut pull = samples::pull();
        let first = "r.example/app:1: fetching 4 of 5 layers, 50.0MB\n\
                     r.example/app:1: layer bbbbbbbbbbbb done, 10.0MB\n";
        assert_eq!(lines.of(&pull), first);
        assert_eq!(lines.of(&pull), "");
        pull.elapsed_ms += TOTAL_EVERY_MS;
        let total = "r.example/app:1: 16.0MB of 50.0MB, 2.00MB/s, 17s left\n\
                     r.example/app:1: 12s without a byte from https://r.example/v2/app/blobs/sha256:dd\n";
        assert_eq!(lines.of(&pull), total);
        assert_eq!(lines.of(&pull), "");
        pull.layers[2].set_phase(PullLayerPhase::LayerDone);
        assert_eq!(
            lines.of(&pull),
            "r.example/app:1: layer cccccccccccc done, 20.0MB\n"
        );
        pull.set_phase(PullPhase::PullFailed);
        pull.outcome = "no such thing".into();
        pull.layers.clear();
        let end = "r.example/app:1: failed after 9.2s: no such thing\n";
        assert_eq!(lines.of(&pull), end);
        assert_eq!(lines.of(&pull), "");
    }

    #[test]
    fn a_second_try_lists_its_layers_again() {
        let mut lines = Lines::default();
        let mut pull = samples::pull();
        let first = lines.of(&pull);
        pull.set_phase(PullPhase::PullResolving);
        pull.layers.clear();
        lines.of(&pull);
        assert_eq!(lines.of(&samples::pull()), first);
    }

    #[test]
    fn those_that_ended_before_are_not_told() {
        let mut lines = Lines::default();
        let mut pull = samples::pull();
        pull.set_phase(PullPhase::PullDone);
        lines.keep(std::slice::from_ref(&pull), true);
        assert_eq!(lines.of(&pull), "");
        lines.keep(&[], false);
        assert!(lines.pulls.is_empty());
    }
}
