//! OCI layouts made by hand.
#![allow(dead_code)]

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use unpack::digest::{Algorithm, Digest};

use crate::scene::Scene;

fn sha256(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, bytes)
}

/// An OCI layout directory of these layers, tagged `latest`.
pub fn layout(scene: &Scene, layers: &[Vec<u8>]) -> PathBuf {
    with_config(scene, layers, json!({ "Env": ["A=b"], "Cmd": ["sh"] }))
}

/// The same with a configuration of what is to be run.
pub fn with_config(scene: &Scene, layers: &[Vec<u8>], run: serde_json::Value) -> PathBuf {
    let path = scene.path("oci");
    let _ = fs::remove_dir_all(&path);
    let blobs = path.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |media: &str, bytes: &[u8]| {
        let digest = sha256(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        json!({ "mediaType": format!("application/vnd.oci.image.{media}"), "digest": digest.as_str(), "size": bytes.len() })
    };
    let stored: Vec<_> = layers.iter().map(|bytes| put("layer.v1.tar", bytes)).collect();
    let diff_ids: Vec<_> = layers.iter().map(|bytes| sha256(bytes).as_str().to_owned()).collect();
    let config = json!({
        "architecture": unpack::image::Platform::host().architecture,
        "os": "linux",
        "config": run,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = put("config.v1+json", config.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": stored,
    });
    let mut manifest = put("manifest.v1+json", manifest.to_string().as_bytes());
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });
    fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(path.join("index.json"), index.to_string()).unwrap();
    path
}
