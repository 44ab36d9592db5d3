//! What a file is, is told from all of it: layered images of any names in any order, damaged ones, and root filesystems
//! that have some of their names.

mod archive;
mod scene;

use std::fs;

use archive::layout::{Layout, config, digest, docker, gzip, layer};
use archive::{Block, END, extended, long, record};
use scene::{Scene, text};
use serde_json::{Value, json};

/// Larger than what is looked at of a stream's beginning.
fn large(name: &str) -> Vec<u8> {
    layer(name, &"0123456789abcdef".repeat(8 << 10))
}

fn by_hand(config_name: &str, layer_name: &str) -> Layout {
    let layers = [large("etc/big")];
    let manifest = json!([{"Config": config_name, "RepoTags": ["x:1"], "Layers": [layer_name]}]).to_string();
    Layout::default()
        .with(config_name, config("linux/amd64", &layers).as_bytes())
        .with(layer_name, &layers[0])
        .with("manifest.json", manifest.as_bytes())
}

/// From a file and from a pipe, plain and compressed: an image, or refused with the format to ask for, and never a root
/// with a manifest in it.
fn taken_as_an_image(bytes: &[u8], what: &str) {
    for stored in [bytes.to_vec(), gzip(bytes)] {
        let scene = Scene::new();
        let root = scene.extracted(bytes, &[]);
        assert!(root.join("etc/big").exists() && !root.join("manifest.json").exists(), "{what}");
        let output = scene.unpack_bytes(&stored, &["-", "piped"]);
        let piped = scene.path("piped");
        if output.status.success() {
            assert!(piped.join("etc/big").exists() && !piped.join("manifest.json").exists(), "{what}");
        } else {
            let stderr = text(&output.stderr);
            assert!(stderr.contains("hint: --format docker"), "{what}: {stderr}");
            assert!(!piped.exists(), "{what}");
            let output = scene.unpack_bytes(&stored, &["--format", "docker", "-", "piped"]);
            assert!(output.status.success() && piped.join("etc/big").exists(), "{what}: {}", text(&output.stderr));
        }
    }
}

/// `tar cf img.tar config.json layer.tar manifest.json`, in each order and by other names.
#[test]
fn a_docker_archive_made_by_hand_is_one_whatever_its_members_are_called() {
    for (config, layer) in
        [("config.json", "layer.tar"), ("c", "l"), ("conf/c", "x/y/z"), ("app.json", "app-layer.tar.gz")]
    {
        let whole = by_hand(config, layer);
        for order in [[0, 1, 2], [1, 0, 2], [1, 2, 0], [2, 1, 0]] {
            let layout = Layout { files: order.map(|i| whole.files[i].clone()).to_vec() };
            taken_as_an_image(&layout.tar(), &format!("{config}, {layer}, {order:?}"));
        }
    }
}

#[test]
fn headers_of_any_length_may_come_first() {
    let comments: Vec<String> = (0..10).map(|i| record(&format!("comment.{i}"), &"x".repeat(50_000))).collect();
    let layout = by_hand("config.json", "layer.tar");
    let bytes: Vec<u8> = layout
        .files
        .iter()
        .flat_map(|(name, bytes)| [extended(&comments), Block::file(name, bytes).bytes()].concat())
        .chain(END)
        .collect();
    taken_as_an_image(&bytes, "long headers");
}

/// A first member that says nothing: neither an image's name nor an archive's content.
#[test]
fn a_pipe_that_begins_with_something_else_is_refused_and_not_extracted() {
    let layout = by_hand("config.json", "layer.tar");
    let bytes = [Block::file("README", &[b'r'; 100_000]).bytes(), layout.tar()].concat();
    taken_as_an_image(&bytes, "README first");
    let message = Scene::new().failed_pipe(&bytes);
    assert!(message.contains("is a docker archive, which its beginning does not show"), "{message}");
    let mut oci = Layout::oci();
    let image = oci.image("linux/amd64", &[large("f")], gzip);
    let bytes = [Block::file("README", &[b'r'; 100_000]).bytes(), oci.index(json!([image])).tar()].concat();
    let message = Scene::new().failed_pipe(&bytes);
    assert!(message.contains("is an OCI layout, which its beginning does not show"), "{message}");
}

fn refused_both_ways(bytes: &[u8], says: &str) {
    let message = Scene::new().refused(bytes, &[]);
    assert!(message.contains(says), "{message}, not {says}");
    let message = Scene::new().failed_pipe(bytes);
    assert!(message.contains(says), "from a pipe: {message}, not {says}");
}

#[test]
fn a_damaged_docker_archive_is_no_root_filesystem_and_says_what_is_wrong() {
    let image = docker("x:1", &[large("f")], &["a/layer.tar".into()]).without("manifest.json");
    for (manifest, says) in [
        (&br#"[{"Config":"config.js"#[..], "manifest.json: malformed JSON"),
        (b"", "manifest.json: malformed JSON"),
        (b"no json", "manifest.json: malformed JSON"),
        (b"null", "manifest.json: is not a list of images"),
        (b"{}", "manifest.json: is not a list of images"),
        (b"[]", "manifest.json: lists no image"),
        (b"[null]", "manifest.json: lists something without a config and layers"),
        (br#"[{"Config":"gone.json","Layers":[]}]"#, "config gone.json: is missing"),
    ] {
        refused_both_ways(&image.clone().with("manifest.json", manifest).tar(), says);
    }
    refused_both_ways(&image.tar(), "neither a manifest.json nor an index.json");
}

#[test]
fn a_damaged_layout_is_no_root_filesystem_and_says_what_is_wrong() {
    let mut whole = Layout::oci();
    let image = whole.image("linux/amd64", &[large("f")], gzip);
    let blobs = whole.clone().without("oci-layout");
    for (index, says) in [
        (&b"{"[..], "index.json: malformed JSON"),
        (b"", "index.json: malformed JSON"),
        (b"null", "index.json: is not a JSON object"),
        (b"[]", "index.json: is not a JSON object"),
        (br#"{"manifests":{}}"#, "index.json: manifests is not a list"),
        (br#"{"manifests":null}"#, "contains no image"),
    ] {
        refused_both_ways(&whole.clone().with("index.json", index).tar(), says);
    }
    refused_both_ways(&whole.tar(), "it has no index.json");
    refused_both_ways(&blobs.clone().index(json!([image])).tar(), "it has no oci-layout");
    for (marker, says) in [
        (&b"{"[..], "oci-layout: malformed JSON"),
        (b"null", "oci-layout: is not a JSON object"),
        (b"{}", "has no imageLayoutVersion"),
    ] {
        refused_both_ways(&blobs.clone().index(json!([image])).with("oci-layout", marker).tar(), says);
    }
    refused_both_ways(&blobs.tar(), "neither a manifest.json nor an index.json");
}

/// `tar cf img.tar DIR` in place of `tar -C DIR -cf img.tar .`.
#[test]
fn an_image_below_a_directory_is_refused_with_the_line_that_helps() {
    let mut oci = Layout::oci();
    let image = oci.image("linux/amd64", &[large("f")], gzip);
    for (layout, kind) in [
        (oci.index(json!([image])), "an OCI layout"),
        (docker("x:1", &[large("f")], &["a/layer.tar".into()]), "a docker archive"),
    ] {
        for directory in ["img", "tmp/some/img"] {
            let files = layout.files.iter().map(|(name, bytes)| (format!("{directory}/{name}"), bytes.clone()));
            let bytes = Layout { files: files.collect() }.tar();
            refused_both_ways(&bytes, &format!("holds {kind} in its directory {directory}/, not at its top"));
            refused_both_ways(&bytes, &format!("tar -xf IMAGE && unpack {directory}"));
            let scene = Scene::new();
            fs::create_dir(scene.path("x")).unwrap();
            scene.write("img.tar", &bytes);
            assert!(
                std::process::Command::new("tar")
                    .args(["-xf", "img.tar", "-C", "x"])
                    .current_dir(scene.path(""))
                    .status()
                    .unwrap()
                    .success()
            );
            let output = scene.unpack(&["-q", &format!("x/{directory}"), "root"]);
            assert!(output.status.success(), "{}", text(&output.stderr));
        }
    }
}

#[test]
fn a_root_filesystem_may_hold_images_and_files_of_their_names() {
    let inner = docker("x:1", &[layer("f", "x")], &["a/layer.tar".into()]);
    let files = inner.files.iter().map(|(name, bytes)| (format!("var/img/{name}"), bytes.clone()));
    let mut files: Vec<_> = files.collect();
    for (name, content) in [("bin/sh", "x"), ("manifest.json", "{}"), ("index.json", "{}"), ("blobs/x", "x")] {
        files.push((name.to_owned(), content.as_bytes().to_vec()));
    }
    let bytes = Layout { files }.tar();
    let scene = Scene::new();
    assert!(scene.extracted(&bytes, &[]).join("var/img/manifest.json").exists());
    let output = scene.unpack_bytes(&bytes, &["-", "piped"]);
    assert!(output.status.success() && scene.path("piped/manifest.json").exists(), "{}", text(&output.stderr));
}

/// docker and skopeo load it: what the layers must be is in the config all the same.
#[test]
fn a_config_that_was_changed_is_a_warning() {
    let mut image = docker("x:1", &[layer("f", "x")], &["a/layer.tar".into()]);
    image.files[1].1.push(b'\n');
    let named = image.files[1].0.replace(".json", "");
    let now = digest(&image.files[1].1);
    let scene = Scene::new();
    scene.write("img.tar", &image.tar());
    let output = scene.unpack(&["img.tar", "root"]);
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains(&format!("config sha256:{named}: was changed: its digest is {now} now")), "{stderr}");
    let receipt: Value = serde_json::from_slice(&fs::read(scene.path("root.image.json")).unwrap()).unwrap();
    assert_eq!(receipt["image"]["config_digest"], now);
    image.files[0].1 = layer("f", "y");
    assert!(Scene::new().refused(&image.tar(), &[]).contains("the diff id does not match"));
}

/// As `tar -S` stores a layer with holes.
#[test]
fn a_sparse_member_of_an_outer_archive_is_read() {
    let plain = [Block::file("zeros", &[0; 64 << 10]).bytes(), Block::file("f", b"x").bytes(), END.to_vec()].concat();
    let whole = docker("x:1", std::slice::from_ref(&plain), &["layer.tar".into()]);
    let scene = Scene::new();
    fs::create_dir(scene.path("in")).unwrap();
    for (name, bytes) in &whole.files {
        scene.write(&format!("in/{name}"), bytes);
    }
    // A hole where the layer has zeros.
    let script = "fallocate -d in/layer.tar; tar --format=$0 -S -C in -cf img.tar .";
    for format in ["gnu", "posix"] {
        let made = std::process::Command::new("sh").args(["-ec", script, format]).current_dir(scene.path("")).status();
        assert!(made.unwrap().success());
        let bytes = fs::read(scene.path("img.tar")).unwrap();
        assert!(bytes.len() < plain.len(), "tar made no sparse member");
        let output = scene.unpack(&["-q", "img.tar", format]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(fs::read(scene.path(format).join("f")).unwrap(), b"x");
        assert!(scene.unpack_bytes(&bytes, &["-q", "-", &format!("{format}-piped")]).status.success());
    }
}

/// A kilobyte that would be read as a terabyte of zeros, to digest it.
#[test]
fn a_sparse_member_may_not_be_a_bomb() {
    let name = "layer.tar";
    let sparse = Block::new(name, b'S').magic(b"ustar  \0").field(483, b"17777777777777\0".split_at(12).0);
    let rest = by_hand("config.json", name).without(name);
    let message = Scene::new().refused(&[sparse.bytes(), rest.tar()].concat(), &[]);
    assert!(message.contains("more than 100 times its size") && message.contains("--limit ratio"), "{message}");
}

/// skopeo goes by the descriptor and by what the document has in it.
#[test]
fn a_document_may_call_itself_by_another_media_type() {
    let with = |own: &str, nested: bool| {
        let layers = [layer("f", "x")];
        let mut layout = Layout::oci();
        let config = layout.blob("application/vnd.oci.image.config.v1+json", config("linux/amd64", &layers).as_bytes());
        let stored = layout.blob("application/octet-stream", &gzip(&layers[0]));
        let own_manifest = if nested { "application/vnd.oci.image.manifest.v1+json" } else { own };
        let manifest = json!({"schemaVersion": 2, "mediaType": own_manifest, "config": config, "layers": [stored]});
        let mut listed = layout.blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
        if nested {
            let index = json!({"schemaVersion": 2, "mediaType": own, "manifests": [listed]}).to_string();
            listed = layout.blob("application/vnd.oci.image.index.v1+json", index.as_bytes());
        }
        layout.index(json!([listed])).tar()
    };
    let scene = Scene::new();
    for (i, (own, nested)) in [
        ("application/vnd.docker.distribution.manifest.v2+json", false),
        ("application/vnd.oci.image.index.v1+json", false),
        ("x/y", false),
        ("application/vnd.docker.distribution.manifest.list.v2+json", true),
    ]
    .into_iter()
    .enumerate()
    {
        scene.write("img.tar", &with(own, nested));
        let output = scene.unpack(&["img.tar", &i.to_string()]);
        assert!(output.status.success(), "{own}: {}", text(&output.stderr));
    }
}

/// What `manifests` makes of the descriptor of an image and of a means to store more.
fn listing(manifests: impl Fn(Value, &mut Layout) -> Value) -> Layout {
    let mut layout = Layout::oci();
    let image = layout.image("linux/amd64", &[layer("f", "image")], gzip);
    let listed = manifests(image, &mut layout);
    layout.index(listed)
}

fn named(mut descriptor: Value, name: &str) -> Value {
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    descriptor
}

#[test]
fn what_only_refers_to_an_image_is_none() {
    let artifact = |layout: &mut Layout, more: Value| {
        let empty = layout.blob("application/vnd.oci.empty.v1+json", b"{}");
        let mut manifest = json!({"schemaVersion": 2, "config": empty, "layers": []});
        manifest.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        layout.blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes())
    };
    let scene = Scene::new();
    let cases: [fn(&Value) -> Value; 3] = [
        |image| json!({"subject": image}),
        |_| json!({"artifactType": "application/vnd.example.signature"}),
        // A Helm chart beside the image: its config is none of an image.
        |_| json!({}),
    ];
    for (i, more) in cases.into_iter().enumerate() {
        let layout = listing(|image, layout| {
            let other = artifact(layout, more(&image));
            json!([named(image, "v1"), named(other, "other")])
        });
        scene.write("img.tar", &layout.tar());
        let output = scene.unpack(&["img.tar", &i.to_string()]);
        assert!(output.status.success(), "{i}: {}", text(&output.stderr));
        assert_eq!(fs::read(scene.path(&format!("{i}/f"))).unwrap(), b"image");
    }
    let alone = listing(|_, layout| json!([artifact(layout, json!({"artifactType": "x/y"}))]));
    let message = Scene::new().refused(&alone.tar(), &[]);
    assert!(message.contains("(application/vnd.oci.empty.v1+json): no image's configuration"), "{message}");
}

#[test]
fn two_tags_of_one_index_are_one_image() {
    let layout = listing(|image, layout| {
        let other = layout.image("linux/s390x", &[layer("f", "other")], gzip);
        let index = json!({"schemaVersion": 2, "manifests": [image, other]}).to_string();
        let index = layout.blob("application/vnd.oci.image.index.v1+json", index.as_bytes());
        json!([named(index.clone(), "a"), named(index, "b")])
    });
    let scene = Scene::new();
    let root = scene.extracted(&layout.tar(), &["--platform", "linux/s390x"]);
    assert_eq!(fs::read(root.join("f")).unwrap(), b"other");
}

#[test]
fn where_names_do_not_tell_images_apart_the_hint_offers_digests() {
    let layout = listing(|image, layout| {
        let other = layout.image("linux/amd64", &[layer("f", "other")], gzip);
        json!([named(image, "same"), named(other, "same")])
    });
    let message = Scene::new().refused(&layout.tar(), &[]);
    assert!(message.contains("contains several images"), "{message}");
    let digests: Vec<&str> = message.rsplit("--ref: ").next().unwrap().trim().split(", ").collect();
    assert_eq!(digests.len(), 2, "{message}");
    let mut found: Vec<Vec<u8>> = digests
        .iter()
        .map(|digest| {
            assert!(digest.starts_with("sha256:"), "{message}");
            fs::read(Scene::new().extracted(&layout.tar(), &["--ref", digest]).join("f")).unwrap()
        })
        .collect();
    found.sort();
    assert_eq!(found, [b"image".to_vec(), b"other".to_vec()]);
}

/// A name longer than any field, which only its extended header has.
#[test]
fn a_member_with_a_long_name_is_found() {
    let name = format!("{}/layer", "d".repeat(200));
    let layout = by_hand("config.json", &name);
    assert!(long(&name).len() > 512);
    taken_as_an_image(&layout.tar(), "long name");
}
