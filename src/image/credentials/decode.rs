//! The two spellings of auth files: `auth`, and the names of registries.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::Credential;
use crate::image::reference::DOCKER_HUB;

/// The host of a registry or of the URL that docker writes for one; the hub has several names.
pub(super) fn host_of(server: &str) -> &str {
    let bare = server
        .strip_prefix("https://")
        .or_else(|| server.strip_prefix("http://"));
    let is_url = bare.is_some();
    let rest = bare.unwrap_or(server);
    let host = match rest.split_once('/') {
        Some((host, path)) if is_url || matches!(path.trim_end_matches('/'), "" | "v1" | "v2") => {
            host
        }
        // host/namespace: a path of its own, not that host
        Some(_) => return rest,
        None => rest,
    };
    match host {
        "index.docker.io" | "registry-1.docker.io" | "docker.io" => DOCKER_HUB,
        other => other,
    }
}

/// `auth`: base64 of `user:password`; `None` where there is no colon, which docker and CRI-O pass
/// over. The error does not quote it.
pub(super) fn decode(auth: &str) -> Result<Option<Credential>, String> {
    let trimmed = auth.trim();
    let bytes = STANDARD
        .decode(trimmed)
        .or_else(|_| STANDARD_NO_PAD.decode(trimmed))
        .map_err(|_| "auth is not base64".to_owned())?;
    let text = String::from_utf8(bytes).map_err(|_| "auth is not text".to_owned())?;
    let Some((username, password)) = text.split_once(':') else {
        return Ok(None);
    };
    // docker pads with NUL
    let password = password.trim_end_matches('\0').to_owned();
    Ok(Some(Credential::Basic {
        username: username.to_owned(),
        password,
    }))
}
