//! Which image ROOT should become, and whether it is that image already.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use chain::receipt::Doubt;
use chain::{Hint, Tool, WithHint, warn};
use serde_json::{Value, json};

use crate::args::Args;
use crate::digest::Digest;
use crate::image::{Image, Kind, Request, Verified};
use crate::receipt::{Standing, may_be_written, standing};
use crate::source::Source;

const REPLACE: &str = "--replace extracts it again; another ROOT leaves it alone";

/// What ROOT should become, as far as that is known before the image is read.
pub struct ExpectedRoot<'a> {
    pub args: &'a Args,
    pub root: &'a Path,
    /// The file's identity, if the image is a file.
    pub source: Value,
    pub options: Value,
    /// The directory to replace.
    pub replaces: Value,
}

/// What identifies an image that has been read.
pub struct Known {
    /// Of the source's bytes.
    pub digest: Option<Digest>,
    /// Of a layered image's configuration, which names its layers' content.
    pub config: Option<Digest>,
    pub image: Value,
}

impl Known {
    pub fn of(image: &Image, verified: &[Verified], digest: Option<Digest>) -> Known {
        let kind = match image.kind {
            Kind::RootFs => "rootfs",
            Kind::Docker => "docker",
            Kind::Oci => "oci",
        };
        let layers: Vec<_> = verified.iter().filter_map(|layer| layer.diff_id.as_ref().map(Digest::as_str)).collect();
        let described = json!({
            "kind": kind,
            "names": image.names,
            "platform": image.platform.as_ref().map(ToString::to_string),
            "manifest_digest": image.manifest_digest.as_ref().map(Digest::as_str),
            "config_digest": image.config_digest.as_ref().map(Digest::as_str),
            "diff_ids": layers,
        });
        let passed = verified.iter().find_map(|layer| layer.source.clone());
        Known {
            digest: image.source_digest.clone().or(passed).or(digest),
            config: image.config_digest.clone(),
            image: described,
        }
    }

    fn is_in(&self, receipt: &Value) -> bool {
        let same = |digest: &Option<Digest>, stored: &Value| {
            digest.is_some() && digest.as_ref().map(Digest::as_str) == stored.as_str()
        };
        same(&self.config, &receipt["image"]["config_digest"]) || same(&self.digest, &receipt["digest"])
    }
}

impl ExpectedRoot<'_> {
    /// The receipt of ROOT, if that is this image already. An error if it is something else.
    pub fn is_at_root(&self, source: &mut Option<Source>, request: &Request) -> Result<Option<Value>> {
        let receipt = match standing(self.root)? {
            Standing::Absent => return may_be_written(self.root).map(|()| None),
            Standing::Root(receipt) => receipt,
            Standing::BeingReplaced => return Err(being_replaced(self.root)),
            Standing::Foreign(doubt) => return Err(foreign(self.root, &doubt)),
        };
        if self.source.is_null() || receipt["source"] != self.source {
            let Some(source) = source.take() else { return Ok(None) };
            let known = self.read(source, request).with_context(|| self.args.image.display().to_string())?;
            self.matches(&receipt, known.is_in(&receipt))?;
        } else {
            self.matches(&receipt, true)?;
        }
        self.say_that_it_is_reused();
        Ok(Some(receipt))
    }

    /// Reads as much of the image as identifying it takes.
    fn read(&self, source: Source, request: &Request) -> Result<Known> {
        let file = matches!(source, Source::File(_));
        let mut image = Image::open(source, request)?;
        if image.kind == Kind::RootFs && file {
            let digest = Source::open(&self.args.image)?.digest(request.source_algorithm())?;
            return Ok(Known::of(&image, &[], Some(digest)));
        }
        let mut verified = Vec::new();
        if image.kind == Kind::RootFs {
            for layer in &mut image.layers {
                verified.push(layer.open(&request.limits, None)?.finish()?);
            }
        }
        Ok(Known::of(&image, &verified, None))
    }

    /// Another run made ROOT first: its receipt, if that one will do.
    pub fn came_first(&self, known: &Known) -> Result<Value> {
        match standing(self.root)? {
            Standing::Root(receipt) => {
                let same = (!self.source.is_null() && receipt["source"] == self.source) || known.is_in(&receipt);
                self.matches(&receipt, same)?;
                Ok(receipt)
            }
            Standing::Absent => bail!("{}: another run made it meanwhile, and it is gone", self.root.display()),
            Standing::BeingReplaced => Err(being_replaced(self.root)),
            Standing::Foreign(doubt) => Err(foreign(self.root, &doubt)),
        }
    }

    fn matches(&self, receipt: &Value, same: bool) -> Result<()> {
        let shown = self.root.display();
        if !same {
            return Err(anyhow!("{shown}: made from another image")).hint(REPLACE);
        }
        if receipt["options"] != self.options {
            return Err(anyhow!("{shown}: made from this image with other options")).hint(REPLACE);
        }
        Ok(())
    }

    /// A root of an earlier run may have been modified since; one that another run made just now has not.
    fn say_that_it_is_reused(&self) {
        if !self.args.quiet {
            let note =
                "reusing the existing root (--replace extracts it again, pivot --ephemeral leaves it unmodified)";
            warn(Tool::Unpack, format_args!("{}: {note}", self.root.display()));
        }
    }
}

fn being_replaced(root: &Path) -> anyhow::Error {
    anyhow!("{}: a run that was to replace it was killed", root.display()).context(Hint(REPLACE.into()))
}

/// The error for a ROOT that no receipt vouches for.
pub fn foreign(root: &Path, doubt: &Doubt) -> anyhow::Error {
    let shown = root.display();
    let error = match doubt {
        Doubt::Missing => anyhow!("{shown}: exists and unpack did not make it"),
        Doubt::OtherTree => anyhow!("{shown}: the receipt beside it is another directory's"),
        Doubt::Others(_) | Doubt::Damaged(_) => anyhow!("{shown}: cannot be trusted to be unpack's: {doubt}"),
    };
    error.context(Hint("move it away or name another ROOT".into()))
}
