//! Situations of public reports on other tools, each rebuilt from its description.

mod archive;
mod scene;

use std::fs;
use std::process::Command;

use archive::layout::{Layout, config, digest, docker, gzip, layer};
use archive::{Block, END, extended, record};
use scene::{Scene, text};
use serde_json::{Value, json};

/// From a file and from a pipe: the content of `f`.
fn both_ways(bytes: &[u8], args: &[&str], content: &str) {
    let scene = Scene::new();
    let root = scene.extracted(bytes, args);
    assert_eq!(fs::read_to_string(root.join("f")).unwrap(), content);
    let output = scene.unpack_bytes(bytes, &[args, &["-", "piped"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(fs::read_to_string(scene.path("piped/f")).unwrap(), content);
}

fn refused_both_ways(bytes: &[u8], says: &[&str]) {
    let scene = Scene::new();
    for message in [scene.refused(bytes, &[]), scene.failed_pipe(bytes)] {
        assert!(says.iter().all(|says| message.contains(says)), "{message}, not {says:?}");
    }
}

/// Names as `tar -C DIR -cf - .` has them, directories among them.
fn with_dots(layout: &Layout) -> Vec<u8> {
    let entries = layout.files.iter().map(|(name, bytes)| {
        let name = format!("./{name}");
        [archive::long(&name), Block::file("x", bytes).bytes()].concat()
    });
    [Block::new("./", b'5').bytes()].into_iter().chain(entries).flatten().chain(END).collect()
}

fn oci(layer: &[u8], pack: fn(&[u8]) -> Vec<u8>) -> Layout {
    let mut layout = Layout::oci();
    let image = layout.image("linux/amd64", &[layer.to_vec()], pack);
    layout.index(json!([image]))
}

/// https://github.com/podman-container-tools/podman/issues/8132: empty names for layers that the receiver has already.
#[test]
fn layers_without_a_name_are_missing() {
    let image = docker("x:1", &[layer("f", "base"), layer("f", "top")], &[String::new(), "top.tar".into()]);
    let image = Layout { files: image.files.into_iter().filter(|(name, _)| !name.is_empty()).collect() };
    refused_both_ways(&image.tar(), &["layer 1 of 2 (): is missing"]);
}

/// https://github.com/podman-container-tools/skopeo/issues/999 and https://github.com/orbstack/orbstack/issues/2059: archives
/// whose members begin with `./`, where the documents have no such thing.
#[test]
fn members_may_begin_with_a_dot() {
    both_ways(&with_dots(&docker("x:1", &[layer("f", "x")], &["a/layer.tar".into()])), &[], "x");
    both_ways(&with_dots(&oci(&layer("f", "x"), gzip)), &[], "x");
}

/// https://github.com/containerd/containerd/issues/9981, https://github.com/containerd/containerd/issues/3326 and
/// https://github.com/containerd/containerd/issues/14160: what is compressed, and how, against what is said of it.
#[test]
fn layers_are_compressed_as_they_are_and_not_as_they_are_called() {
    let zstd: fn(&[u8]) -> Vec<u8> = |plain| zstd::encode_all(plain, 1).unwrap();
    let plain: fn(&[u8]) -> Vec<u8> = |plain| plain.to_vec();
    for pack in [gzip as fn(&[u8]) -> Vec<u8>, zstd, plain] {
        // The layout calls each of them a plain tar.
        both_ways(&oci(&layer("f", "x"), pack).tar(), &[], "x");
        let mut image = docker("x:1", &[layer("f", "x")], &["a/layer.tar".into()]);
        image.files[0].1 = pack(&image.files[0].1);
        both_ways(&image.tar(), &[], "x");
        both_ways(&gzip(&image.tar()), &[], "x");
    }
}

/// https://github.com/containerd/containerd/issues/12890: a layer that is a link to what is beside its directory, not in it; and
/// https://github.com/indexable-inc/index/pull/2079: one that is a link into the store of the machine that made it.
#[test]
fn a_layer_that_is_a_link_to_nothing_says_where_it_leads() {
    let image = docker("x:1", &[layer("f", "x")], &["id/layer.tar".into()]);
    let named = image.files[0].1.clone();
    let rest = image.without("id/layer.tar").with("blob.tar", &named).tar();
    let link = |target: &str| [Block::new("id/layer.tar", b'2').link(target).bytes(), rest.clone()].concat();
    refused_both_ways(
        &link("blob.tar"),
        &["layer 1 of 1 (id/layer.tar)", "is a link to id/blob.tar, which is not in the archive"],
    );
    refused_both_ways(
        &link("/nix/store/x/layer.tar"),
        &["is a link to nix/store/x/layer.tar, which is not in the archive"],
    );
    both_ways(&link("../blob.tar"), &[], "x");
}

/// https://github.com/podman-container-tools/podman/issues/4646 and https://github.com/podman-container-tools/podman/issues/29196:
/// one image, or one index, under two names.
#[test]
fn each_of_two_names_is_taken() {
    let mut layout = Layout::oci();
    let image = layout.image("linux/amd64", &[layer("f", "x")], gzip);
    let named = |name: &str| {
        let mut descriptor = image.clone();
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        descriptor
    };
    let bytes = layout.clone().index(json!([named("localhost/a:latest"), named("localhost/a:stable")])).tar();
    for args in [&[][..], &["--ref", "localhost/a:stable"], &["--ref", "localhost/a"]] {
        both_ways(&bytes, args, "x");
    }
}

/// https://github.com/google/go-containerregistry/issues/1756: one platform of many, out of a pipe.
#[test]
fn one_platform_of_many_comes_out_of_a_pipe() {
    let mut layout = Layout::oci();
    let images = ["linux/amd64", "linux/arm64"].map(|platform| layout.image(platform, &[layer("f", platform)], gzip));
    let index = json!({"schemaVersion": 2, "manifests": images}).to_string();
    let index = layout.blob("application/vnd.oci.image.index.v1+json", index.as_bytes());
    let bytes = layout.index(json!([index])).tar();
    for platform in ["linux/amd64", "linux/arm64"] {
        both_ways(&bytes, &["--platform", platform], platform);
    }
}

/// https://github.com/google/go-containerregistry/issues/1623: whiteouts in an image's only layer, with nothing to hide; and
/// https://github.com/google/go-containerregistry/issues/2399: a layer with an entry that is called `.`.
#[test]
fn an_only_layer_may_have_whiteouts_and_a_dot() {
    let entries = [
        Block::new(".", b'5').bytes(),
        Block::file("d/.wh..wh..opq", b"").bytes(),
        Block::file(".wh.gone", b"").bytes(),
        Block::file("f", b"x").bytes(),
        END.to_vec(),
    ];
    let image = docker("x:1", &[entries.concat()], &["a/layer.tar".into()]);
    both_ways(&image.tar(), &[], "x");
    let root = Scene::new();
    let root = root.extracted(&image.tar(), &[]);
    assert!(!root.join(".wh.gone").exists() && !root.join("d/.wh..wh..opq").exists());
}

/// https://github.com/confidential-containers/guest-components/issues/1737: Docker writes such a record with no value.
#[test]
fn an_attribute_may_be_empty() {
    let entries = [
        extended(&[record("SCHILY.xattr.user.overlay.origin", ""), record("SCHILY.xattr.user.empty", "")]),
        Block::file("f", b"x").bytes(),
        END.to_vec(),
    ];
    both_ways(&oci(&entries.concat(), gzip).tar(), &[], "x");
}

/// https://github.com/containers/image/pull/503 and https://github.com/hpc/charliecloud/issues/1568: a layer that an image has twice is in
/// the archive once.
#[test]
fn a_layer_that_is_named_twice_is_applied_twice() {
    let (base, top) = (layer("f", "base"), layer("f", "top"));
    let layers = [base.clone(), top, base];
    let image = docker("x:1", &layers, &["a.tar".into(), "b.tar".into(), "a.tar".into()]);
    both_ways(&image.tar(), &[], "base");
}

/// https://github.com/podman-container-tools/skopeo/issues/425 (a comment of 2022): a tar of what `skopeo copy … dir:` made.
#[test]
fn an_archive_of_skopeos_dir_is_refused_with_skopeos_line() {
    let layers = [layer("f", "x")];
    let config = config("linux/amd64", &layers);
    let hex = |bytes: &[u8]| digest(bytes).replace("sha256:", "");
    let manifest: Value = json!({"schemaVersion": 2, "config": {"digest": digest(config.as_bytes())}, "layers": [{"digest": digest(&layers[0])}]});
    let layout = Layout::default()
        .with(&hex(&layers[0]), &layers[0])
        .with(&hex(config.as_bytes()), config.as_bytes())
        .with("manifest.json", manifest.to_string().as_bytes())
        .with("version", b"Directory Transport Version: 1.1\n");
    refused_both_ways(
        &layout.tar(),
        &["manifest.json: is that of a single image", "skopeo copy --quiet dir:DIR docker-archive:"],
    );
    let scene = Scene::new();
    fs::create_dir(scene.path("dir")).unwrap();
    for (name, bytes) in &layout.files {
        scene.write(&format!("dir/{name}"), bytes);
    }
    let message = scene.failed(&scene.unpack(&["dir", "root"]));
    assert!(message.contains("skopeo copy --quiet dir:DIR"), "{message}");
}

/// https://github.com/bazel-contrib/rules_oci/issues/642: a tar of a layout whose blobs could not be read while it was made, which ends early.
#[test]
fn a_layout_that_lacks_a_blob_names_it() {
    let whole = oci(&layer("f", "x"), gzip);
    let missing =
        whole.files.iter().find(|(name, bytes)| name.starts_with("blobs/") && bytes.starts_with(&[0x1f, 0x8b]));
    let name = missing.unwrap().0.clone();
    let blob = name.replace("blobs/sha256/", "sha256:");
    refused_both_ways(&whole.without(&name).tar(), &["layer 1 of 1", &blob, "is missing"]);
}

/// https://github.com/podman-container-tools/skopeo/issues/2422 and https://github.com/podman-container-tools/skopeo/issues/1313: what skopeo
/// itself makes of a layout with zstd layers, a docker archive with layers that are symlinks, is read like the layout.
#[test]
fn what_skopeo_makes_of_a_layout_is_read_like_the_layout() {
    if !scene::has("skopeo") {
        return scene::skip("no skopeo here");
    }
    // It gives the directories that it extracts an archive into to the archive's owner.
    if !rustix::process::geteuid().is_root() {
        return scene::skip("skopeo needs root to read an archive of root's");
    }
    let scene = Scene::new();
    let layout = oci(&layer("f", "x"), |plain| zstd::encode_all(plain, 1).unwrap());
    scene.write("oci.tar", &layout.tar());
    let copied = Command::new("skopeo")
        .args(["copy", "--quiet", "--insecure-policy", "oci-archive:oci.tar", "docker-archive:docker.tar:x:1"])
        .current_dir(scene.path(""))
        .output()
        .unwrap();
    assert!(copied.status.success(), "{}", text(&copied.stderr));
    both_ways(&fs::read(scene.path("docker.tar")).unwrap(), &[], "x");
}
