//! Every shape that an image comes in, from a file, a directory and a pipe.

mod archive;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use archive::layout::{Layout, digest, docker, gzip, layer};
use archive::reading::{Files, contents, files, four_ways, request};
use archive::{Block, END, global, record};
use serde_json::json;
use unpack::args::Format;
use unpack::budget::Limits;
use unpack::digest::{Algorithm, Digest};
use unpack::image::{Image, Kind, Request};
use unpack::source::Source;

fn two_layers() -> (Vec<Vec<u8>>, Files) {
    (vec![layer("base", "one"), layer("top", "two")], files(&[("base", "one"), ("top", "two")]))
}

#[test]
fn a_root_file_system_streams_through_in_one_layer() {
    let directory = tempfile::tempdir().unwrap();
    let root = [Block::new("./", b'5').bytes(), Block::file("./bin", b"x").bytes(), END.to_vec()].concat();
    four_ways(&root, &request(directory.path()), |image, how| {
        let mut image = image.unwrap();
        assert_eq!((image.kind, image.layers.len()), (Kind::RootFs, 1), "{how}");
        assert!(image.config.is_none() && image.source_digest.is_none());
        let found = contents(&mut image).unwrap();
        assert_eq!(found[0][1], ("./bin".to_owned(), "x".to_owned()), "{how}");
    });
}

/// As an image's source is digested, which nobody but unpack reads.
fn own(bytes: &[u8]) -> String {
    Digest::of(Algorithm::OWN, bytes).to_string()
}

#[test]
fn a_pipe_is_known_by_the_digest_of_all_that_came_through_it() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits::default();
    let rootfs = [layer("bin", "x"), vec![7; 100_000]].concat();
    let layered = docker("a:1", &two_layers().0, &["a/layer.tar".into(), "b/layer.tar".into()]).tar();
    for bytes in [rootfs.clone(), gzip(&rootfs)] {
        let expected = own(&bytes);
        let again = Source::Stream(Box::new(std::io::Cursor::new(bytes.clone()))).digest(Algorithm::OWN).unwrap();
        assert_eq!(again.as_str(), expected);
        let source = Source::Stream(Box::new(std::io::Cursor::new(bytes)));
        let mut image = Image::open(source, &request(directory.path())).unwrap();
        let mut archive = image.layers[0].open(&limits, None).unwrap().entries(&limits);
        while archive.next().unwrap().is_some() {}
        let verified = archive.finish().unwrap().finish().unwrap();
        assert_eq!(verified.source.unwrap().as_str(), expected);
    }
    let expected = own(&layered);
    let image = Image::open(Source::Stream(Box::new(std::io::Cursor::new(layered))), &request(directory.path()));
    assert_eq!(image.unwrap().source_digest.unwrap().as_str(), expected);
}

#[test]
fn docker_archives_of_every_age() {
    let directory = tempfile::tempdir().unwrap();
    let (layers, expected) = two_layers();
    let hex = |layer: &[u8]| digest(layer).replace("sha256:", "");
    let old: Vec<String> = layers.iter().map(|l| format!("{}/layer.tar", hex(l))).collect();
    let podman: Vec<String> = layers.iter().map(|l| format!("{}.tar", hex(l))).collect();
    let new: Vec<String> = layers.iter().map(|l| format!("blobs/sha256/{}", hex(l))).collect();
    for names in [old, podman, new] {
        let mut last = docker("name:tag", &layers, &names);
        let mut first = last.clone();
        first.files.reverse();
        last.files.push(("repositories".into(), b"{}".to_vec()));
        for layout in [first, last] {
            four_ways(&layout.tar(), &request(directory.path()), |image, how| {
                let mut image = image.unwrap();
                assert_eq!(image.kind, Kind::Docker);
                assert_eq!(image.names, ["name:tag"]);
                assert_eq!(image.platform.as_ref().unwrap().to_string(), "linux/amd64");
                assert_eq!(image.config.as_ref().unwrap()["config"]["Cmd"][0], "/bin/sh");
                assert_eq!(image.config_digest.as_ref().unwrap().as_str(), digest(&image.config_bytes));
                assert_eq!(contents(&mut image).unwrap(), expected, "{how} {}", names[0]);
            });
        }
    }
}

#[test]
fn an_archive_of_nothing_is_a_root_of_nothing_where_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let asked = Request { format: Format::Rootfs, ..request(directory.path()) };
    four_ways(&END, &asked, |image, how| {
        let empty: Files = vec![vec![]];
        assert_eq!(contents(&mut image.unwrap()).unwrap(), empty, "{how}");
    });
}

/// Layers that name their parents, and no list of them anywhere.
#[test]
fn a_docker_archive_of_before_manifests_is_named_as_such() {
    let directory = tempfile::tempdir().unwrap();
    let (base, top) = ("a".repeat(64), "b".repeat(64));
    let described = |id: &str, parent: Option<&str>| json!({"id": id, "parent": parent, "os": "linux"}).to_string();
    let layout = Layout::default()
        .with(&format!("{base}/VERSION"), b"1.0")
        .with(&format!("{base}/json"), described(&base, None).as_bytes())
        .with(&format!("{base}/layer.tar"), &layer("f", "base"))
        .with(&format!("{top}/json"), described(&top, Some(&base)).as_bytes())
        .with(&format!("{top}/layer.tar"), &layer("f", "top"))
        .with("repositories", json!({"name": {"tag": top}}).to_string().as_bytes());
    four_ways(&layout.tar(), &request(directory.path()), |image, how| {
        let error = image.unwrap_err();
        assert!(format!("{error:#}").contains("saved by docker before 1.10"), "{how}: {error:#}");
        assert!(error.downcast_ref::<chain::Hint>().is_some());
    });
    let other = layout.without("repositories").with("repositories", b"[]");
    four_ways(&other.tar(), &request(directory.path()), |image, how| {
        let error = format!("{:#}", image.unwrap_err());
        assert!(error.contains("has the parts of an image"), "{how}: {error}");
    });
}

#[test]
fn a_docker_layer_may_be_a_link_to_another_layer() {
    let directory = tempfile::tempdir().unwrap();
    let same = layer("same", "thing");
    let layers = [same.clone(), same.clone(), same.clone()];
    let names = ["a/layer.tar", "b/layer.tar", "c/layer.tar"].map(str::to_owned);
    let layout = docker("x:1", &layers, &names).without("b/layer.tar").without("c/layer.tar");
    let links = [
        Block::new("b/layer.tar", b'2').link("../a/layer.tar").bytes(),
        Block::new("c/layer.tar", b'1').link("b/layer.tar").bytes(),
    ];
    let bytes = [links.concat(), layout.tar()].concat();
    let forced = Request { format: Format::Docker, ..request(directory.path()) };
    four_ways(&bytes, &forced, |image, _| {
        assert_eq!(contents(&mut image.unwrap()).unwrap(), files(&[("same", "thing"); 3]));
    });
    let looped =
        [Block::new("a/layer.tar", b'2').link("layer.tar").bytes(), layout.without("a/layer.tar").tar()].concat();
    four_ways(&looped, &forced, |image, _| {
        let error = format!("{:#}", image.unwrap_err());
        assert!(error.contains("layer 1 of 3 (a/layer.tar): too many links"), "{error}");
    });
}

#[test]
fn an_index_of_nulls_beside_a_docker_manifest() {
    let directory = tempfile::tempdir().unwrap();
    let (layers, expected) = two_layers();
    let names = layers.iter().map(|l| format!("blobs/{}", digest(l).replace(':', "/"))).collect::<Vec<_>>();
    let mut layout = docker("x:1", &layers, &names).index(serde_json::Value::Null);
    layout.files.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    four_ways(&layout.tar(), &request(directory.path()), |image, _| {
        assert_eq!(contents(&mut image.unwrap()).unwrap(), expected);
    });
    let oci = Request { format: Format::Oci, ..request(directory.path()) };
    four_ways(&layout.tar(), &oci, |image, _| {
        assert!(format!("{:#}", image.unwrap_err()).contains("contains no image"));
    });
}

fn oci(layers: &[Vec<u8>], pack: fn(&[u8]) -> Vec<u8>) -> Layout {
    let mut layout = Layout::oci();
    let image = layout.image("linux/amd64", layers, pack);
    layout.index(json!([image]))
}

#[test]
fn oci_layouts_as_archive_and_as_directory() {
    let directory = tempfile::tempdir().unwrap();
    let (layers, expected) = two_layers();
    for pack in [gzip as fn(&[u8]) -> Vec<u8>, |plain| plain.to_vec(), |plain| zstd::encode_all(plain, 1).unwrap()] {
        let layout = oci(&layers, pack);
        four_ways(&layout.tar(), &request(directory.path()), |image, how| {
            let mut image = image.unwrap();
            assert_eq!(image.kind, Kind::Oci);
            assert!(image.manifest_digest.is_some());
            assert_eq!(contents(&mut image).unwrap(), expected, "{how}");
        });
        let root = directory.path().join("layout");
        for (name, bytes) in &layout.files {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), bytes).unwrap();
        }
        let mut image = Image::open(Source::open(&root).unwrap(), &request(directory.path())).unwrap();
        assert_eq!(contents(&mut image).unwrap(), expected);
        fs::remove_dir_all(root).unwrap();
    }
    let error = Image::open(Source::open(directory.path()).unwrap(), &request(directory.path())).unwrap_err();
    assert!(format!("{error:#}").contains("not an OCI layout"), "{error:#}");
}

#[test]
fn a_layout_directory_leads_nowhere_else() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("layout");
    fs::create_dir(&root).unwrap();
    fs::write(directory.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    std::os::unix::fs::symlink("../oci-layout", root.join("oci-layout")).unwrap();
    fs::write(root.join("index.json"), "{}").unwrap();
    let open = || Image::open(Source::open(&root).unwrap(), &request(directory.path())).unwrap_err();
    assert!(format!("{:#}", open()).starts_with("oci-layout: "), "{:#}", open());
    fs::remove_file(root.join("oci-layout")).unwrap();
    nix::unistd::mkfifo(&root.join("oci-layout"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(format!("{:#}", open()).contains("oci-layout: is not a regular file"), "{:#}", open());
}

#[test]
fn a_root_file_system_with_a_manifest_in_it_stays_one() {
    let directory = tempfile::tempdir().unwrap();
    let docker_like = r#"[{"Config":"config.json","RepoTags":null,"Layers":["layer.tar"]}]"#;
    for content in ["{}", "[]", "[1]", "no json", docker_like, r#"[{"Config":"c"}]"#] {
        let files =
            [Block::file("manifest.json", content.as_bytes()).bytes(), Block::file("index.json", b"{}").bytes()];
        let bytes = [files.concat(), layer("bin", "x")].concat();
        four_ways(&bytes, &request(directory.path()), |image, how| {
            let mut image = image.unwrap();
            assert_eq!(image.kind, Kind::RootFs, "{how} {content}");
            assert_eq!(contents(&mut image).unwrap()[0].len(), 3, "{how} {content}");
        });
        let forced = Request { format: Format::Docker, ..request(directory.path()) };
        four_ways(&bytes, &forced, |image, _| {
            assert!(format!("{:#}", image.unwrap_err()).contains("manifest.json") || content == docker_like);
        });
    }
    let (layers, _) = two_layers();
    let image = docker("x:1", &layers, &["a/layer.tar".into(), "b/layer.tar".into()]).tar();
    let forced = Request { format: Format::Rootfs, ..request(directory.path()) };
    four_ways(&image, &forced, |image, _| assert_eq!(image.unwrap().kind, Kind::RootFs));
}

#[test]
fn what_is_no_archive_is_named_as_such() {
    let directory = tempfile::tempdir().unwrap();
    for (bytes, why) in [
        (&b""[..], "is empty"),
        (&[0; 512], "without entries"),
        (&[0; 1024], "without entries"),
        (&[0; 20 << 10], "without entries"),
        (&[global(&[record("comment", "x")]), END.to_vec()].concat(), "without entries"),
        (b"hello", "is not a tar archive but text"),
        (&[b'x'; 5000], "is not a tar archive but text"),
        (&[0xaa; 5000], "is not a tar archive (plain, gzip, xz, zstd or bzip2)"),
        (b"Getting image source signatures\nCopying", "skopeo's progress"),
    ] {
        four_ways(bytes, &request(directory.path()), |image, how| {
            let error = format!("{:#}", image.unwrap_err());
            assert!(error.contains(why), "{how}: {error}");
        });
    }
    let mut damaged = layer("bin", "x");
    damaged[0] ^= 1;
    four_ways(&damaged, &request(directory.path()), |image, _| {
        let error = format!("{:#}", image.and_then(|mut image| contents(&mut image)).unwrap_err());
        assert!(error.contains("at byte 0: the header's checksum is wrong"), "{error}");
    });
}

#[test]
fn a_cut_stream_is_called_truncated() {
    let directory = tempfile::tempdir().unwrap();
    let long = [Block::file("a", &[1; 200_000]).bytes(), Block::file("b", b"x").bytes(), END.to_vec()].concat();
    let check = |bytes: &[u8]| {
        for source in [
            Source::Stream(Box::new(std::io::Cursor::new(bytes.to_vec()))),
            Source::open(&stored(directory.path(), bytes)).unwrap(),
        ] {
            let result = Image::open(source, &request(directory.path())).and_then(|mut image| contents(&mut image));
            let error = format!("{:#}", result.unwrap_err());
            assert!(error.contains("truncated"), "{error}");
        }
    };
    let entries = long.len() - END.len();
    for cut in (512..=entries).step_by(512) {
        check(&long[..cut]);
    }
    let packed = gzip(&long);
    for cut in (10..packed.len()).step_by(97) {
        check(&packed[..cut]);
    }
}

fn stored(directory: &Path, bytes: &[u8]) -> std::path::PathBuf {
    let path = directory.join("image");
    File::create(&path).unwrap().write_all(bytes).unwrap();
    path
}
