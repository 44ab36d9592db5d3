//! Layered images made file by file.

use std::io::Write as _;

use serde_json::{Value, json};
use unpack::digest::{Algorithm, Digest};

use super::{Block, END};

pub fn digest(bytes: &[u8]) -> String {
    Digest::of(Algorithm::Sha256, bytes).to_string()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// A layer with one file.
pub fn layer(name: &str, content: &str) -> Vec<u8> {
    [Block::file(name, content.as_bytes()).bytes(), END.to_vec()].concat()
}

#[derive(Clone, Default)]
pub struct Layout {
    pub files: Vec<(String, Vec<u8>)>,
}

impl Layout {
    /// An OCI layout without an index.
    pub fn oci() -> Layout {
        Layout::default().with("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
    }

    pub fn with(mut self, name: &str, bytes: &[u8]) -> Layout {
        self.files.push((name.to_owned(), bytes.to_vec()));
        self
    }

    pub fn without(mut self, name: &str) -> Layout {
        let before = self.files.len();
        self.files.retain(|(file, _)| file != name);
        assert!(self.files.len() < before, "{name} was not there");
        self
    }

    /// Adds a blob; its descriptor.
    pub fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        self.files.push((format!("blobs/{}", digest.replace(':', "/")), bytes.to_vec()));
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Adds an image of these plain layers, each stored as `pack` makes it; its manifest's descriptor.
    pub fn image(&mut self, platform: &str, layers: &[Vec<u8>], pack: fn(&[u8]) -> Vec<u8>) -> Value {
        let config = self.blob("application/vnd.oci.image.config.v1+json", config(platform, layers).as_bytes());
        let layers: Vec<Value> =
            layers.iter().map(|layer| self.blob("application/vnd.oci.image.layer.v1.tar", &pack(layer))).collect();
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        let mut descriptor = self.blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
        let parts: Vec<&str> = platform.split('/').collect();
        descriptor["platform"] = json!({"os": parts[0], "architecture": parts[1], "variant": parts.get(2)});
        descriptor
    }

    pub fn index(self, manifests: Value) -> Layout {
        self.with("index.json", json!({"schemaVersion": 2, "manifests": manifests}).to_string().as_bytes())
    }

    /// As one archive.
    pub fn tar(&self) -> Vec<u8> {
        let files =
            self.files.iter().map(|(name, bytes)| super::long(name).into_iter().chain(Block::file("f", bytes).bytes()));
        files.flatten().chain(END).collect()
    }
}

pub fn config(platform: &str, layers: &[Vec<u8>]) -> String {
    let parts: Vec<&str> = platform.split('/').collect();
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    json!({
        "os": parts[0], "architecture": parts[1], "variant": parts.get(2),
        "config": {"Env": ["A=b"], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string()
}

/// What docker before 25 wrote, by the names of its layers.
pub fn docker(tag: &str, layers: &[Vec<u8>], names: &[String]) -> Layout {
    let config = config("linux/amd64", layers);
    let config_name = format!("{}.json", digest(config.as_bytes()).replace("sha256:", ""));
    let manifest = json!([{"Config": config_name, "RepoTags": [tag], "Layers": names}]);
    let layout = names.iter().zip(layers).fold(Layout::default(), |layout, (name, layer)| layout.with(name, layer));
    layout.with(&config_name, config.as_bytes()).with("manifest.json", manifest.to_string().as_bytes())
}
