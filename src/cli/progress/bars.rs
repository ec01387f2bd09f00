//! Progress on a terminal: a line for the pull, a bar for each layer, drawn over and over.

use std::os::fd::AsFd;

use cricket_proto::admin::{Pull, PullLayer, PullLayerPhase};

use super::{Totals, fetched, layer_phase, phase, short, silence};
use crate::cli::amount::{bytes, time};

/// Width and height where the terminal does not say.
const USUAL: Size = Size {
    columns: 80,
    rows: 24,
};
/// Characters of a bar.
const BAR: u64 = 24;

/// A terminal's, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters of a line.
    pub columns: usize,
    /// Lines.
    pub rows: usize,
}

/// The size of the terminal behind `file` now; people resize windows.
pub fn size(file: &impl AsFd) -> Size {
    match rustix::termios::tcgetwinsize(file) {
        Ok(found) if found.ws_col > 0 && found.ws_row > 0 => Size {
            columns: usize::from(found.ws_col),
            rows: usize::from(found.ws_row),
        },
        _ => USUAL,
    }
}

/// The part of a terminal that is drawn over.
#[derive(Debug, Default)]
pub struct Screen {
    lines: usize,
}

impl Screen {
    /// What to write so that `lines` stand where the last ones stood.
    pub fn draw(&mut self, lines: &[String], size: Size) -> String {
        let mut out = self.home();
        // a line that the terminal breaks, or a last one that scrolls, would spoil the count
        for line in lines.iter().take(size.rows.saturating_sub(1)) {
            out.extend(line.chars().take(size.columns.saturating_sub(1)));
            out.push_str("\x1b[K\n");
            self.lines += 1;
        }
        out.push_str("\x1b[J");
        out
    }

    /// What to write so that nothing is left of it.
    pub fn clear(&mut self) -> String {
        self.home() + "\x1b[J"
    }

    fn home(&mut self) -> String {
        match std::mem::take(&mut self.lines) {
            0 => String::new(),
            lines => format!("\r\x1b[{lines}A"),
        }
    }
}

/// A pull as lines that fit the terminal: those that move first, if not all fit.
pub fn frame(pull: &Pull, size: Size) -> Vec<String> {
    let mut lines = vec![headline(pull)];
    let requests = pull.waits_for.iter().filter(|wait| {
        let of_layer = |layer: &PullLayer| layer.waits_for.as_ref() == Some(wait);
        !pull.layers.iter().any(of_layer)
    });
    lines.extend(requests.filter_map(silence).map(|told| format!("  {told}")));
    let room = size.rows.saturating_sub(lines.len() + 2);
    let over = |layer: &PullLayer| {
        let over = [PullLayerPhase::LayerDone, PullLayerPhase::LayerExists];
        over.contains(&layer.phase())
    };
    let mut spare = pull.layers.len().saturating_sub(room);
    let mut hidden = 0;
    for layer in &pull.layers {
        if spare > 0 && over(layer) {
            (spare, hidden) = (spare - 1, hidden + 1);
        } else {
            lines.push(bar(layer));
        }
    }
    // still too many: the last ones have not begun
    while lines.len() + 2 > size.rows && lines.len() > 1 {
        lines.pop();
        hidden += 1;
    }
    if hidden > 0 {
        lines.push(format!("  and {hidden} more layers"));
    }
    lines
}

fn headline(pull: &Pull) -> String {
    let totals = Totals::of(pull);
    let progress = match totals.size {
        0 => String::new(),
        _ => format!("  {}", totals.words()),
    };
    let (elapsed, phase) = (time(pull.elapsed_ms), phase(pull));
    format!("{}  {phase}  {elapsed}{progress}", pull.reference)
}

fn bar(layer: &PullLayer) -> String {
    let name = short(&layer.digest);
    let size = bytes(layer.size_bytes);
    if layer.phase() == PullLayerPhase::LayerExists {
        return format!("  {name}  {size:>8}  here already");
    }
    let come = fetched(layer);
    let filled = come
        .saturating_mul(BAR)
        .checked_div(layer.size_bytes)
        .unwrap_or(BAR);
    let filled = usize::try_from(filled.min(BAR)).unwrap_or(0);
    let bar = format!(
        "{:<width$}",
        "=".repeat(filled),
        width = usize::try_from(BAR).unwrap_or(0)
    );
    let mut line = format!("  {name}  {size:>8} [{bar}]  {}", layer_phase(layer));
    if layer.bytes_per_second > 0 {
        line.push_str(&format!("  {}/s", bytes(layer.bytes_per_second)));
    }
    if let Some(told) = layer.waits_for.as_ref().and_then(silence) {
        line.push_str(&format!("  {told}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn a_frame_has_a_bar_for_each_layer() {
        let want = "\
r.example/app:1  fetching  4.2s  16.0MB of 50.0MB, 2.00MB/s, 17s left
  aaaaaaaaaaaa    7.00MB  here already
  bbbbbbbbbbbb    10.0MB [========================]  done
  cccccccccccc    20.0MB [======                  ]  fetching  2.00MB/s
  dddddddddddd    10.0MB [==                      ]  fetching  12s without a byte from https://r.example/v2/app/blobs/sha256:dd
  eeeeeeeeeeee    10.0MB [                        ]  waiting
";
        assert_eq!(frame(&samples::pull(), USUAL).join("\n") + "\n", want);
    }

    #[test]
    fn what_does_not_fit_is_what_does_not_move() {
        let mut pull = samples::pull();
        let size = |rows| Size { columns: 80, rows };
        let lines = frame(&pull, size(6));
        assert!(lines.len() < 6, "{lines:?}");
        assert!(lines[1].contains("cccc"), "{lines:?}");
        assert_eq!(lines.last().unwrap(), "  and 2 more layers");
        let many = samples::layer('f', PullLayerPhase::LayerFetching, 1, 2);
        pull.layers = vec![many; 1000];
        for rows in 1..30 {
            assert!(frame(&pull, size(rows)).len() <= rows.max(2), "{rows}");
        }
    }

    #[test]
    fn a_screen_is_drawn_over_and_never_scrolls() {
        let mut screen = Screen::default();
        let size = Size {
            columns: 5,
            rows: 3,
        };
        let lines = ["123456", "ä", "x"].map(str::to_owned);
        let first = screen.draw(&lines, size);
        assert_eq!(first, "1234\x1b[K\nä\x1b[K\n\x1b[J");
        let second = screen.draw(&lines[..1], size);
        assert!(second.starts_with("\r\x1b[2A1234"), "{second:?}");
        assert_eq!(screen.clear(), "\r\x1b[1A\x1b[J");
        assert_eq!(screen.clear(), "\x1b[J");
    }

    #[test]
    fn a_layer_without_size_is_no_fault() {
        let line = bar(&samples::layer('0', PullLayerPhase::LayerFetching, 9, 0));
        assert!(line.contains("fetching"), "{line}");
    }
}
