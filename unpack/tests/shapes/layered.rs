//! Images of layers.

use serde_json::json;

use super::{deep, dir, file, gzip, tar};
use crate::archive::Block;
use crate::archive::layout::{Layout, docker};

type Make = fn(usize) -> Vec<u8>;

pub const SHAPES: &[(&str, Make)] = &[
    ("whiteouts of files", |n| {
        image(vec![
            tar((0..n / 2).map(|i| file(&format!("d/{i}")))),
            tar((0..n / 2).map(|i| file(&format!("d/.wh.{i}")))),
        ])
    }),
    ("whiteouts of nothing, deep", |n| {
        image(vec![tar([file("f")]), tar((0..n / 8).map(|i| file(&deep("d", &format!(".wh.{i}")))))])
    }),
    ("whiteouts of a live directory", |n| {
        let base = tar((0..n / 4).map(|i| file(&format!("d/{i}"))));
        let new = (0..n / 4).map(|i| file(&format!("d/new{i}")));
        image(vec![base, tar(new.chain((0..n / 2).map(|_| file(".wh.d"))))])
    }),
    ("whiteouts of live directories from the bottom up", |n| {
        let chains = n / 50 + 1;
        let at = |i: usize, levels: usize, name: &str| file(&format!("{i}/{}{name}", "d/".repeat(levels)));
        let base = tar((0..chains).map(|i| at(i, 50, "f")));
        let new = (0..chains).map(|i| at(i, 50, "new"));
        let up = (0..chains).flat_map(|i| (1..50).rev().map(move |levels| at(i, levels, ".wh.d")));
        image(vec![base, tar(new.chain(up))])
    }),
    ("opaque markers in forty layers", |n| {
        let layer = tar([file("d/.wh..wh..opq")].into_iter().chain((0..n / 40).map(|i| file(&format!("d/{i}")))));
        image(vec![layer; 40])
    }),
    ("opaque markers and files by turns", |n| {
        let base = tar((0..n / 3).map(|i| file(&format!("d/{i}"))));
        let turns = (0..n / 3).flat_map(|i| [file(&format!("d/new{i}")), file("d/.wh..wh..opq")]);
        image(vec![base, tar(turns)])
    }),
    ("links and whiteouts of them by turns, in layers", |n| {
        let turns = (0..n / 40 + 1).flat_map(|i| [super::symlink("l", "d"), file(&format!("l/{i}"))]);
        let (links, away) = (tar([dir("d")].into_iter().chain(turns)), tar([file(".wh.l"), file("d/.wh..wh..opq")]));
        image((0..20).flat_map(|_| [links.clone(), away.clone()]).collect())
    }),
    ("a tiny layer again and again", |n| image(vec![tar([file("f")]); n / 32 + 1])),
    ("tiny layers that each are gzip", |n| {
        let layers: Vec<_> = (0..n / 32 + 1).map(|i| tar([file(&i.to_string())])).collect();
        let mut layout = Layout::oci();
        let image = layout.image("linux/amd64", &layers, gzip);
        gzip(&layout.index(json!([image])).tar())
    }),
    ("a layer of a megabyte of zeros again and again", |n| {
        image(vec![tar([Block::file("f", &vec![0; 1 << 20]).bytes()]); n / 256 + 1])
    }),
    ("indexes that name one index again and again", |n| {
        let mut layout = Layout::oci();
        let image = layout.image("linux/amd64", &[tar([file("f")])], gzip);
        let mut named = image;
        for _ in 0..4 {
            let list = vec![named; n.isqrt().isqrt().max(2)];
            let text = json!({"schemaVersion": 2, "manifests": list}).to_string();
            named = layout.blob("application/vnd.oci.image.index.v1+json", text.as_bytes());
        }
        gzip(&layout.index(json!([named])).tar())
    }),
    ("indexes in each other", |n| {
        let mut layout = Layout::oci();
        let mut named = layout.image("linux/amd64", &[tar([file("f")])], gzip);
        for _ in 0..n / 64 {
            let text = json!({"schemaVersion": 2, "manifests": [named]}).to_string();
            named = layout.blob("application/vnd.oci.image.index.v1+json", text.as_bytes());
        }
        gzip(&layout.index(json!([named])).tar())
    }),
    ("an index of many images", |n| {
        let mut layout = Layout::oci();
        let others = (0..n / 64).map(|i| format!("linux/{i}"));
        let platforms: Vec<_> = [unpack::image::Platform::host().to_string()].into_iter().chain(others).collect();
        let images: Vec<_> =
            platforms.iter().map(|platform| layout.image(platform, &[tar([file("f")])], gzip)).collect();
        gzip(&layout.index(json!(images)).tar())
    }),
    ("an index of many tags", |n| {
        let mut layout = Layout::oci();
        let image = layout.image("linux/amd64", &[tar([file("f")])], gzip);
        let tags = (0..n / 4).map(|i| {
            let mut tag = image.clone();
            tag["annotations"] = json!({"org.opencontainers.image.ref.name": i.to_string()});
            tag
        });
        gzip(&layout.index(tags.collect()).tar())
    }),
    ("an archive of many members beside an image", |n| {
        let image = docker("x:1", &[tar([file("f")])], &["0/layer.tar".into()]);
        let image = (0..n).fold(image, |image, i| image.with(&format!("more/{i}"), b""));
        gzip(&image.tar())
    }),
];

fn image(layers: Vec<Vec<u8>>) -> Vec<u8> {
    let mut names = std::collections::HashMap::new();
    let names: Vec<_> = layers
        .iter()
        .map(|layer| {
            let next = names.len();
            format!("{}/layer.tar", names.entry(layer).or_insert(next))
        })
        .collect();
    gzip(&docker("x:1", &layers, &names).tar())
}
