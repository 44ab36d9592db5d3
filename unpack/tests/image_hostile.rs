//! Images that lie about themselves.

mod archive;
mod scene;

use archive::layout::{Layout, config, digest, docker, gzip, layer};
use archive::reading::{contents, files, four_ways, request};
use scene::Scene;
use serde_json::{Value, json};
use unpack::image::Request;

fn here() -> Request {
    request(&std::env::temp_dir())
}

fn refused_in(layout: &Layout, why: &str) {
    four_ways(&layout.tar(), &here(), |image, how| {
        let error = image.and_then(|mut image| contents(&mut image)).expect_err(why);
        let text = format!("{error:#}");
        assert!(text.contains(why), "{how}: {text}, not {why}");
    });
    // And by the program, which must leave nothing.
    let message = Scene::new().refused(&layout.tar(), &[]);
    assert!(message.contains(why), "{message}, not {why}");
}

/// A layout whose manifest is `change`d after its layers were stored.
fn with_manifest(change: impl Fn(&mut Value)) -> Layout {
    let layers = [layer("f", "x")];
    let mut layout = Layout::oci();
    let config = layout.blob("application/vnd.oci.image.config.v1+json", config("linux/amd64", &layers).as_bytes());
    let layer = layout.blob("application/vnd.oci.image.layer.v1.tar+gzip", &gzip(&layers[0]));
    let mut manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    change(&mut manifest);
    let manifest = layout.blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
    layout.index(json!([manifest]))
}

#[test]
fn an_honest_image_passes() {
    four_ways(&with_manifest(|_| {}).tar(), &here(), |image, _| {
        assert_eq!(contents(&mut image.unwrap()).unwrap(), files(&[("f", "x")]));
    });
}

#[test]
fn layers_that_are_missing_wrong_or_too_many() {
    let zeros = format!("sha256:{}", "0".repeat(64));
    refused_in(&with_manifest(|m| m["layers"][0]["digest"] = json!(zeros)), "layer 1 of 1 (sha256:0000");
    refused_in(&with_manifest(|m| m["layers"][0]["digest"] = json!(zeros)), "is missing");
    refused_in(&with_manifest(|m| m["layers"][0]["size"] = json!(7)), "but 7 was announced");
    refused_in(&with_manifest(|m| m["layers"][0]["size"] = json!(-7)), "a descriptor without a size");
    refused_in(&with_manifest(|m| m["layers"][0]["digest"] = json!("md5:00")), "unknown digest algorithm");
    refused_in(
        &with_manifest(|m| m["layers"][0]["digest"] = json!("sha256:../../../etc/passwd")),
        "malformed sha256 digest",
    );
    refused_in(&with_manifest(|m| m["layers"][0]["digest"] = json!(5)), "digest is not a string");
    refused_in(&with_manifest(|m| m["layers"] = json!([])), "number of layers: 0, but 1 in the config");
    refused_in(&with_manifest(|m| m["layers"] = json!({})), "layers is not a list");
    let urls = json!(["https://elsewhere.example/"]);
    let foreign = |m: &mut Value| {
        m["layers"][0]["digest"] = json!(zeros);
        m["layers"][0]["urls"] = urls.clone();
    };
    refused_in(&with_manifest(foreign), "can only be had from elsewhere");
}

#[test]
fn content_that_is_not_what_its_digest_says() {
    let flip = |layout: &Layout, what: &str| {
        let mut layout = layout.clone();
        let (_, bytes) = layout.files.iter_mut().find(|(_, bytes)| digest(bytes) == what).unwrap();
        let last = bytes.len() - 1;
        bytes[last] = if bytes[last] == b' ' { b'\n' } else { b' ' };
        layout
    };
    let layers = [layer("f", "x")];
    let pack = |plain: &[u8]| [gzip(plain), b" ".to_vec()].concat();
    let mut layout = Layout::oci();
    let manifest = layout.image("linux/amd64", &layers, pack);
    let manifest_digest = manifest["digest"].as_str().unwrap().to_owned();
    let layout = layout.index(json!([manifest]));
    refused_in(&flip(&layout, &manifest_digest), "the digest does not match");
    refused_in(&flip(&layout, &digest(config("linux/amd64", &layers).as_bytes())), "config: sha256:");
    // What gunzip ignores still belongs to the blob.
    refused_in(&flip(&layout, &digest(&pack(&layers[0]))), "the digest does not match: announced sha256:");
}

#[test]
fn a_layer_that_is_not_what_its_diff_id_says() {
    let mut layout = Layout::oci();
    let config =
        layout.blob("application/vnd.oci.image.config.v1+json", config("linux/amd64", &[layer("f", "x")]).as_bytes());
    let other = layout.blob("application/vnd.oci.image.layer.v1.tar+gzip", &gzip(&layer("f", "y")));
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [other]});
    let manifest = layout.blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
    refused_in(&layout.index(json!([manifest])), "the diff id does not match");
    let old = docker("x:1", &[layer("f", "x")], &["a/layer.tar".into()]);
    let mut swapped = old.clone();
    swapped.files[0].1 = layer("f", "y");
    refused_in(&swapped, "the diff id does not match");
    refused_in(&old.clone().without("a/layer.tar"), "layer 1 of 1 (a/layer.tar): is missing");
    let config_name = old.files[1].0.clone();
    refused_in(&old.without(&config_name), "is missing");
}

#[test]
fn the_same_layer_twice_is_applied_twice() {
    let same = layer("f", "x");
    let mut layout = Layout::oci();
    let image = layout.image("linux/amd64", &[same.clone(), same], gzip);
    four_ways(&layout.index(json!([image])).tar(), &here(), |image, _| {
        assert_eq!(contents(&mut image.unwrap()).unwrap(), files(&[("f", "x"); 2]));
    });
}

#[test]
fn a_document_of_two_kinds_is_refused() {
    refused_in(&with_manifest(|m| m["manifests"] = json!([])), "is a manifest and an index at once");
    let both = json!({"manifests": [], "layers": []}).to_string();
    refused_in(&Layout::oci().with("index.json", both.as_bytes()), "index.json: is a manifest and an index at once");
}

#[test]
fn an_index_that_holds_itself_or_too_many_others_is_refused() {
    let mut layout = Layout::oci();
    let mut inner = json!({"manifests": []});
    for _ in 0..12 {
        let descriptor = layout.blob("application/vnd.oci.image.index.v1+json", inner.to_string().as_bytes());
        inner = json!({"manifests": [descriptor]});
    }
    refused_in(&layout.with("index.json", inner.to_string().as_bytes()), "indexes inside each other");
    let mut layout = Layout::oci();
    let padded = json!({"manifests": [], "annotations": {"x": "y".repeat(1 << 20)}}).to_string();
    let descriptor = layout.blob("application/vnd.oci.image.index.v1+json", padded.as_bytes());
    refused_in(&layout.index(Value::from(vec![descriptor; 100])), "more than 67108864 bytes of JSON in all");
    let many: Vec<Value> = (0..10_001).map(|i| json!({"digest": digest(&[i as u8]), "size": 1})).collect();
    refused_in(&Layout::oci().index(Value::from(many)), "more than 10000 manifests");
}

#[test]
fn json_that_is_huge_deep_or_no_object() {
    let index = |bytes: &[u8]| Layout::oci().with("index.json", bytes);
    let mut huge = json!({"manifests": []}).to_string().into_bytes();
    huge.resize(5 << 20, b' ');
    refused_in(&index(&huge), "index.json: more than 4194304 bytes of JSON");
    refused_in(
        &docker("x:1", &[], &[]).without("manifest.json").with("manifest.json", &huge),
        "manifest.json: more than",
    );
    let blob = |bytes: &[u8]| {
        let mut layout = Layout::oci();
        let descriptor = layout.blob("application/vnd.oci.image.manifest.v1+json", bytes);
        layout.index(json!([descriptor]))
    };
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    refused_in(&blob(deep.as_bytes()), "malformed JSON");
    let many = format!("[{}1]", "1,".repeat(300_000));
    refused_in(&blob(many.as_bytes()), "more than 200000 values of JSON");
    for bytes in [&b"[]"[..], b"1", b"\"x\"", b"null"] {
        refused_in(&blob(bytes), "is not a JSON object");
    }
    for bytes in [&b""[..], b"{", b"{\"a\":}", b"\xff", b"{}{}"] {
        refused_in(&blob(bytes), "malformed JSON");
    }
    refused_in(&blob(b"{}"), "no image's manifest: it has no config");
    refused_in(&with_manifest(|m| m["config"] = json!({})), "a descriptor without a digest");
}

#[test]
fn configs_that_are_none() {
    let with_config = |bytes: &[u8]| {
        let mut layout = Layout::oci();
        let config = layout.blob("application/vnd.example.helm.config+json", bytes);
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": []});
        let manifest = layout.blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
        layout.index(json!([manifest]))
    };
    refused_in(&with_config(b"{}"), "no image's configuration: it has no rootfs");
    refused_in(&with_config(br#"{"rootfs":{"diff_ids":[1]}}"#), "a diff id that is not a string");
    refused_in(&with_config(br#"{"rootfs":{"diff_ids":["sha256:zz"]}}"#), "diff_ids: malformed sha256 digest");
    refused_in(&with_config(br#"{"rootfs":{},"os":7}"#), "os is not a string");
}

#[test]
fn a_layout_of_another_version_is_named() {
    let layout = Layout::default().with("oci-layout", br#"{"imageLayoutVersion":"2.0.0"}"#).index(json!([]));
    refused_in(&layout, r#"oci-layout: version "2.0.0" is not known here"#);
}
