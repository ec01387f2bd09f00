//! One bad registry after the other: what it does, and what a pull from it must say.

use super::content::{Content, Pack, image, tar};
use super::fixture::{Fixture, Reply, Request, serve_content};
use super::*;

pub fn good() -> Content {
    image(&[
        (tar(&[("a", &[1; 100_000])]), Pack::Gzip),
        (tar(&[("b", b"second")]), Pack::Zstd),
        (tar(&[("c", b"third")]), Pack::Plain),
    ])
}

pub type Handler = Box<dyn Fn(&Request) -> Reply + Send + Sync>;

pub struct Case {
    name: &'static str,
    handler: Handler,
    is: fn(&ImageError) -> bool,
    /// Part of the message: what the user needs.
    says: &'static str,
}

pub fn case(
    name: &'static str,
    is: fn(&ImageError) -> bool,
    says: &'static str,
    handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> Case {
    Case {
        name,
        handler: Box::new(handler),
        is,
        says,
    }
}

/// Serves the good image, but for requests whose path contains `part`.
pub fn except(
    part: impl Into<String>,
    reply: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    let (content, part) = (good(), part.into());
    move |request| {
        if request.path.contains(&part) {
            reply(request)
        } else {
            serve_content(&content, request)
        }
    }
}

/// Serves another image than the good one.
pub fn serving(content: Content) -> impl Fn(&Request) -> Reply + Send + Sync + 'static {
    move |request| serve_content(&content, request)
}

pub fn unavailable(error: &ImageError) -> bool {
    matches!(error, ImageError::Unavailable { .. })
        && error.to_string().starts_with("RegistryUnavailable: ")
}

pub fn denied(error: &ImageError) -> bool {
    matches!(error, ImageError::Denied { .. })
}

pub fn missing(error: &ImageError) -> bool {
    matches!(error, ImageError::NotFound { .. })
}

pub fn protocol(error: &ImageError) -> bool {
    matches!(error, ImageError::Protocol { .. })
}

pub fn wrong_digest(error: &ImageError) -> bool {
    matches!(error, ImageError::DigestMismatch { .. })
}

pub fn wrong_size(error: &ImageError) -> bool {
    matches!(error, ImageError::SizeMismatch { .. })
}

pub fn truncated(error: &ImageError) -> bool {
    matches!(error, ImageError::Truncated { .. })
}

pub fn too_large(error: &ImageError) -> bool {
    matches!(error, ImageError::TooLarge { .. })
}

pub fn malformed(error: &ImageError) -> bool {
    matches!(error, ImageError::Malformed { .. })
}

pub fn unsupported(error: &ImageError) -> bool {
    matches!(error, ImageError::Unsupported { .. })
}

pub fn storage(error: &ImageError) -> bool {
    matches!(error, ImageError::Storage { .. })
}

pub async fn run(cases: Vec<Case>) {
    let content = good();
    let fixture = Fixture::serving(&content).await;
    let node = Node::insecure(&fixture.address);
    let reference = format!("{}/app:1", fixture.address);
    let before = node.on_disk().await;
    for case in cases {
        let name = case.name;
        fixture.become_(case.handler);
        let error = node.pull(&reference).await.expect_err(name);
        assert!((case.is)(error.root()), "{name}: {error:?}");
        let text = error.to_string();
        assert!(text.contains(case.says), "{name}: {text}");
        assert!(
            text.len() < 800 && !text.contains(char::is_control),
            "{name}: {text}"
        );
        assert!(node.images.list(None).is_empty(), "{name}");
        assert_eq!(node.on_disk().await, before, "{name}");
    }
    fixture.become_(serving(content.clone()));
    assert_eq!(node.pull(&reference).await.unwrap(), content.id);
    assert_eq!(node.file(&content.id, 1, "b"), b"second");
}
