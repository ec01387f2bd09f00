use serde_json::{Value, json};

use super::*;

fn layer(size: u64) -> Value {
    let digest = format!("sha256:{:064x}", 1);
    json!({"mediaType": PAYLOAD_TYPE, "digest": digest, "size": size, "annotations": {"a": "b"}})
}

fn manifest(layers: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": layer(2), "layers": layers})
}

fn read(manifest: &Value) -> Result<Vec<(usize, Descriptor)>, ImageError> {
    payloads(manifest.to_string().as_bytes(), None, "it")
}

#[test]
fn signatures_are_the_layers_of_their_type() {
    let mut other = layer(100 << 20);
    other["mediaType"] = json!("application/vnd.dsse.envelope.v1+json");
    let found = read(&manifest(&[layer(1), other, layer(2)])).unwrap();
    let places: Vec<_> = found
        .iter()
        .map(|(at, layer)| (*at, layer.size()))
        .collect();
    assert_eq!(places, [(0, 1), (2, 2)]);
    assert_eq!(read(&manifest(&[])).unwrap(), []);
}

#[test]
fn manifests_that_are_none_are_errors() {
    let mut index = manifest(&[]);
    index["mediaType"] = json!("application/vnd.oci.image.index.v1+json");
    let error = read(&index).unwrap_err();
    assert!(matches!(error, ImageError::Unsupported { .. }), "{error}");
    let docker = Some("application/vnd.docker.distribution.manifest.v2+json");
    let untyped = json!({"schemaVersion": 2, "layers": []}).to_string();
    payloads(untyped.as_bytes(), Some(OCI_MANIFEST), "it").unwrap();
    let error = payloads(untyped.as_bytes(), docker, "it").unwrap_err();
    assert!(matches!(error, ImageError::Unsupported { .. }), "{error}");
    for text in ["", "[]", "{}", r#"{"layers":[{}]}"#, r#"{"layers":{}}"#] {
        let error = payloads(text.as_bytes(), None, "it").expect_err(text);
        assert!(matches!(error, ImageError::Malformed { .. }), "{error}");
    }
}

#[test]
fn signatures_and_their_bytes_are_bounded() {
    let layers = |count: usize, size: u64| manifest(&vec![layer(size); count]);
    assert_eq!(
        read(&layers(MAX_SIGNATURES, 300)).unwrap().len(),
        MAX_SIGNATURES
    );
    let error = read(&layers(10_000, 300)).unwrap_err().to_string();
    assert!(
        error.contains("larger than the limit of 128 signatures"),
        "{error}"
    );
    read(&layers(2, MAX_PAYLOAD_BYTES / 2)).unwrap();
    for bad in [
        layers(2, MAX_PAYLOAD_BYTES / 2 + 1),
        layers(3, u64::MAX / 2),
    ] {
        let error = read(&bad).unwrap_err();
        assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
    }
}
