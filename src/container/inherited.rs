//! What a container inherits of its image where its configuration says nothing else.

use nix::sys::signal::Signal;

use super::{Config, ContainerError};
use crate::spec::inputs::Image;
use crate::storage::ImageRecord;

/// What the container inherits of its image.
pub(super) fn inherited(image: &ImageRecord, config: &Config) -> Image {
    let name = match config.image.user_specified_image.as_str() {
        "" => image.names.first().unwrap_or(&image.id),
        name => name,
    };
    let reference = image.digests.first().unwrap_or(&image.id).clone();
    let base = Image {
        id: image.id.clone(),
        name: name.to_owned(),
        reference,
        ..Image::default()
    };
    let Some(facts) = image.config.config() else {
        return base;
    };
    Image {
        env: facts.env().clone().unwrap_or_default(),
        entrypoint: facts.entrypoint().clone().unwrap_or_default(),
        cmd: facts.cmd().clone().unwrap_or_default(),
        working_dir: facts.working_dir().clone().unwrap_or_default(),
        user: facts.user().clone().unwrap_or_default(),
        stop_signal: facts.stop_signal().clone(),
        volumes: facts.volumes().clone().unwrap_or_default(),
        ..base
    }
}

/// The signal that asks the container to end: the kubelet's, the image's, SIGTERM.
///
/// # Errors
/// When it is not a signal.
pub(super) fn stop_signal(config: &Config, image: &Image) -> Result<i32, ContainerError> {
    let (field, text) = match (&config.stop_signal, &image.stop_signal) {
        (Some(text), _) => ("config.stop_signal", text),
        (None, Some(text)) if !text.is_empty() => ("the image's StopSignal", text),
        (None, _) => return Ok(Signal::SIGTERM as i32),
    };
    parse_signal(text).ok_or_else(|| ContainerError::Invalid {
        field: field.to_owned(),
        problem: format!("`{text}` is not a signal"),
    })
}

/// A signal by number, or by name with or without `SIG`; `RTMIN+n` and `RTMAX-n` too.
fn parse_signal(text: &str) -> Option<i32> {
    const RTMIN: i32 = 34;
    const RTMAX: i32 = 64;
    let upper = text.trim().to_ascii_uppercase();
    if let Ok(number) = upper.parse::<i32>() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let realtime = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => Some((RTMIN, rest, 1)),
        (_, Some(rest)) => Some((RTMAX, rest, -1)),
        _ => None,
    };
    if let Some((base, rest, sign)) = realtime {
        let offset = match rest {
            "" => 0,
            rest => rest.strip_prefix(['+', '-'])?.parse::<i32>().ok()?,
        };
        let number = base.checked_add(sign * offset)?;
        return (RTMIN..=RTMAX).contains(&number).then_some(number);
    }
    format!("SIG{name}")
        .parse::<Signal>()
        .ok()
        .map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_number_and_by_name() {
        for (text, number) in [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX", Some(64)),
            ("rtmax-1", Some(63)),
            ("SIGRTMIN+99", None),
            ("0", None),
            ("65", None),
            ("SIGNONSENSE", None),
            ("", None),
        ] {
            assert_eq!(parse_signal(text), number, "{text}");
        }
    }
}
