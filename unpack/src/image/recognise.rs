//! What an archive is, by its names and its documents together: a layered image, a damaged one, or a root filesystem.

use anyhow::{Result, anyhow, bail};
use chain::WithHint;

use super::choice::{Candidate, Leaf, choose};
use super::evidence::Evidence;
use super::members::{MOST, Members};
use super::{Image, Kind, Request, docker, document, oci};
use crate::args::Format;
use crate::source::Region;

/// The layered image that an archive in a file is; None for a root filesystem.
pub(super) fn in_archive(region: &Region, request: &Request) -> Result<Option<Image>> {
    let evidence = Evidence::of(region.clone(), &request.limits, Region::skip);
    if !evidence.may_be_image() {
        if let Some(directory) = evidence.common() {
            let below = Evidence::below(directory, region.clone(), &request.limits, Region::skip);
            not_below(directory, &below)?;
        }
        if request.format == Format::Auto {
            return Ok(None);
        }
    }
    match Members::scan(region, request)? {
        Some(members) => layered(&members, &evidence, request),
        None if evidence.is_image() || request.format != Format::Auto => {
            Err(anyhow!("has more than {MOST} entries, too many for a layered image"))
                .hint("--format rootfs extracts it as it is")
        }
        None => Ok(None),
    }
}

/// Refuses an image that lies in a directory of the archive, where no tool would look for it.
pub(super) fn not_below(directory: &[u8], below: &Evidence) -> Result<()> {
    if !below.is_image() {
        return Ok(());
    }
    let kind = if below.marker || below.index { "an OCI layout" } else { "a docker archive" };
    let directory = String::from_utf8_lossy(directory);
    Err(anyhow!("holds {kind} in its directory {directory}/, not at its top"))
        .hint(format!("tar -xf IMAGE && unpack {directory}; --format rootfs extracts it as it is"))
}

/// The image that is asked for. None for a root filesystem, which may have files of the same names. An error if it can
/// only be a damaged image.
///
/// What docker save writes today is both kinds: manifest.json lists what is there, and index.json all that the image has.
pub(super) fn layered(members: &Members, evidence: &Evidence, request: &Request) -> Result<Option<Image>> {
    let asked = request.format != Format::Auto;
    if request.format != Format::Oci {
        if evidence.marker && evidence.index && !asked {
            oci::index(members)?;
        }
        match docker::images(members) {
            Ok(Some(images)) if evidence.is_image() || images.iter().any(|image| image.is_there(members)) => {
                let mut notes = Vec::new();
                let candidates: Result<_> =
                    images.into_iter().map(|image| image.candidate(members, &mut notes)).collect();
                let mut image = chosen(members, candidates?, request)?;
                image.notes = notes;
                return Ok(Some(image));
            }
            Err(error) if asked || evidence.is_image() => return Err(error),
            // A root filesystem may have any manifest.json.
            Ok(_) | Err(_) => {}
        }
    }
    let layout = evidence.marker || (evidence.index && evidence.is_image());
    if request.format == Format::Oci || (layout && !asked) {
        return chosen(members, oci::candidates(members)?, request).map(Some);
    }
    if docker::is_of_before_manifests(members)? {
        return Err(anyhow!("was saved by docker before 1.10: it has no manifest.json, and so no digests"))
            .hint("load and save it with a newer docker; or each layer is a file in it: tar -xOf IMAGE ID/layer.tar");
    }
    if asked {
        bail!("is no docker archive: it has no manifest.json that lists its files");
    }
    if evidence.is_image() {
        return Err(anyhow!(
            "has the parts of an image, and neither a manifest.json nor an index.json that lists them"
        ))
        .hint("was it cut short? --format rootfs extracts it as it is");
    }
    Ok(None)
}

fn chosen(members: &Members, mut candidates: Vec<Candidate>, request: &Request) -> Result<Image> {
    let alone = candidates.len() == 1;
    for candidate in &mut candidates {
        let Leaf::Manifest { manifest, descriptor } = &candidate.leaf else { continue };
        // An index need not say what an image is for, nor that something is none; the config does.
        match oci::config(members, manifest, &format!("manifest {}", descriptor.digest)) {
            Ok(config) => {
                candidate.digests.push(config.digest.to_string());
                if candidate.platform.is_none() {
                    candidate.platform = config.platform;
                }
            }
            Err(error) if alone => return Err(error),
            Err(error) => candidate.refers |= error.downcast_ref::<document::NoImage>().is_some(),
        }
    }
    let chosen = choose(candidates, request.reference.as_deref(), request.platform.as_ref())?;
    let (kind, manifest_digest, config, layers) = match chosen.leaf {
        Leaf::Docker { config, layers } => {
            let layers = docker::layers(members, &config, &layers)?;
            (Kind::Docker, None, config, layers)
        }
        Leaf::Manifest { descriptor, manifest } => {
            let name = format!("manifest {}", descriptor.digest);
            let config = oci::config(members, &manifest, &name)?;
            let layers = oci::layers(members, &manifest, &config, &name)?;
            (Kind::Oci, Some(descriptor.digest), config, layers)
        }
        Leaf::Missing(descriptor) => bail!("manifest {}: is missing", descriptor.digest),
    };
    Ok(Image {
        kind,
        names: chosen.names,
        platform: config.platform,
        manifest_digest,
        config_digest: Some(config.digest),
        config_bytes: config.bytes,
        config: Some(config.value),
        source_digest: None,
        layers,
        notes: Vec::new(),
    })
}
