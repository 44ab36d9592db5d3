//! Which image is taken where there are several.

mod archive;

use archive::layout::{Layout, docker, gzip, layer};
use archive::reading::{contents, request};
use serde_json::{Value, json};
use unpack::args::Format;
use unpack::image::{Image, Request};
use unpack::source::Source;

fn open(layout: &Layout, request: &Request) -> anyhow::Result<Image> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("image");
    std::fs::write(&path, layout.tar())?;
    Image::open(Source::open(&path)?, request)
}

/// The content of the one file in the image that is chosen.
fn chosen(layout: &Layout, request: &Request) -> String {
    let mut image = open(layout, request).unwrap();
    contents(&mut image).unwrap()[0][0].1.clone()
}

/// Message and hint.
fn refused(layout: &Layout, request: &Request) -> (String, String) {
    let error = open(layout, request).unwrap_err();
    let hint = error.downcast_ref::<chain::Hint>().map_or(String::new(), |hint| hint.0.clone());
    (format!("{error:#}"), hint)
}

fn wanted(platform: Option<&str>, reference: Option<&str>) -> Request {
    Request {
        platform: platform.map(|platform| platform.parse().unwrap()),
        reference: reference.map(str::to_owned),
        ..request(&std::env::temp_dir())
    }
}

fn named(mut descriptor: Value, name: &str) -> Value {
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    descriptor
}

/// The host's own image, and two others, in an index of their own.
fn multi_platform() -> (Layout, Value) {
    let mut layout = Layout::oci();
    let host = unpack::image::Platform::host().to_string();
    let mut manifests: Vec<Value> = [host.as_str(), "linux/arm/v6", "linux/arm/v7", "linux/s390x"]
        .iter()
        .map(|platform| layout.image(platform, &[layer("platform", platform)], gzip))
        .collect();
    let mut attestation = layout.image("unknown/unknown", &[layer("platform", "attestation")], gzip);
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    manifests.push(attestation);
    let nested =
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests});
    let nested = layout.blob("application/vnd.oci.image.index.v1+json", nested.to_string().as_bytes());
    (layout, nested)
}

#[test]
fn the_platform_is_this_machines_or_the_one_asked_for() {
    let (layout, index) = multi_platform();
    let outer = json!({"schemaVersion": 2, "manifests": [index.clone()]});
    let mut deeper = layout.clone();
    let outer = deeper.blob("application/vnd.docker.distribution.manifest.list.v2+json", outer.to_string().as_bytes());
    for layout in [layout.index(json!([index])), deeper.index(json!([outer]))] {
        let host = unpack::image::Platform::host().to_string();
        assert_eq!(chosen(&layout, &wanted(None, None)), host);
        assert_eq!(chosen(&layout, &wanted(Some("linux/s390x"), None)), "linux/s390x");
        assert_eq!(chosen(&layout, &wanted(Some("linux/arm"), None)), "linux/arm/v7");
        assert_eq!(chosen(&layout, &wanted(Some("linux/arm/v6"), None)), "linux/arm/v6");
        let (error, hint) = refused(&layout, &wanted(Some("linux/mips"), None));
        assert!(error.contains("no image for linux/mips"), "{error}");
        assert!(hint.contains("linux/arm/v7, linux/s390x") && !hint.contains("unknown"), "{hint}");
    }
}

#[test]
fn a_lone_image_for_another_machine_is_taken_unless_a_platform_was_asked_for() {
    let mut layout = Layout::oci();
    let mut image = layout.image("plan9/mips", &[layer("f", "x")], gzip);
    // An index need not say it: the config does.
    image["platform"] = Value::Null;
    let layout = layout.index(json!([image]));
    assert_eq!(chosen(&layout, &wanted(None, None)), "x");
    assert_eq!(chosen(&layout, &wanted(Some("plan9/mips"), None)), "x");
    assert!(refused(&layout, &wanted(Some("linux/amd64"), None)).0.contains("no image for linux/amd64"));
}

#[test]
fn one_of_several_is_chosen_by_name() {
    let mut layout = Layout::oci();
    let images = ["one", "two"].map(|name| (name, layout.image("linux/amd64", &[layer("f", name)], gzip)));
    let layout = layout.index(json!(images.map(|(name, image)| named(image, name))));
    let (error, hint) = refused(&layout, &wanted(None, None));
    assert!(error.contains("several images") && hint.ends_with("--ref: one, two"), "{error} {hint}");
    assert_eq!(chosen(&layout, &wanted(None, Some("two"))), "two");
    let (error, hint) = refused(&layout, &wanted(None, Some("three")));
    assert!(error.contains(r#"no image "three""#) && hint.contains("one, two"), "{error} {hint}");
}

#[test]
fn images_of_different_platforms_and_names_are_still_several() {
    let mut layout = Layout::oci();
    let host = unpack::image::Platform::host().to_string();
    let images = [("one", host.as_str()), ("two", "linux/s390x")]
        .map(|(name, platform)| named(layout.image(platform, &[layer("f", name)], gzip), name));
    let layout = layout.index(json!(images));
    assert!(refused(&layout, &wanted(None, None)).0.contains("several images"));
    assert_eq!(chosen(&layout, &wanted(Some("linux/s390x"), None)), "two");
}

#[test]
fn one_image_of_two_names_is_one_image() {
    let mut layout = Layout::oci();
    let image = layout.image("linux/amd64", &[layer("f", "x")], gzip);
    let layout = layout.index(json!([named(image.clone(), "one"), named(image, "two")]));
    assert_eq!(chosen(&layout, &wanted(None, None)), "x");
    assert_eq!(chosen(&layout, &wanted(None, Some("two"))), "x");
}

#[test]
fn docker_names_may_leave_out_latest_and_nameless_images_have_digests() {
    let two = |tags: [&str; 2]| {
        let parts = [0, 1].map(|i| docker(tags[i], &[layer("f", &i.to_string())], &[format!("{i}/layer.tar")]));
        let manifests: Vec<Value> = parts
            .iter()
            .map(|part| {
                let bytes = &part.files.iter().find(|(name, _)| name == "manifest.json").unwrap().1;
                let mut manifest = serde_json::from_slice::<Value>(bytes).unwrap()[0].take();
                if manifest["RepoTags"][0] == "" {
                    manifest["RepoTags"] = Value::Null;
                }
                manifest
            })
            .collect();
        let files = parts.map(|part| part.without("manifest.json").files).concat();
        Layout { files }.with("manifest.json", Value::from(manifests).to_string().as_bytes())
    };
    let layout = two(["busybox:latest", "debian:12"]);
    assert_eq!(chosen(&layout, &Request { format: Format::Docker, ..wanted(None, Some("busybox")) }), "0");
    assert_eq!(chosen(&layout, &Request { format: Format::Docker, ..wanted(None, Some("debian:12")) }), "1");
    let nameless = two(["", ""]);
    let request = |reference| Request { format: Format::Docker, ..wanted(None, reference) };
    let (_, hint) = refused(&nameless, &request(None));
    let first = hint.rsplit("--ref: ").next().unwrap().split(", ").next().unwrap().to_owned();
    let whole = chosen(&nameless, &request(Some(&first)));
    assert_eq!(chosen(&nameless, &request(Some(&first["sha256:".len()..][..12]))), whole);
}

#[test]
fn what_is_listed_and_not_stored_is_only_missed_where_it_is_wanted() {
    let mut layout = Layout::oci();
    let here = layout.image("linux/amd64", &[layer("f", "here")], gzip);
    let gone = Layout::oci().image("linux/arm64", &[layer("f", "gone")], gzip);
    let layout = layout.index(json!([here, gone]));
    assert_eq!(chosen(&layout, &wanted(Some("linux/amd64"), None)), "here");
    let (error, _) = refused(&layout, &wanted(Some("linux/arm64"), None));
    assert!(error.contains("manifest sha256:") && error.contains("is missing"), "{error}");
}
