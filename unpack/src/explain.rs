//! What unpack would do, as a shell script.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use chain::{Carry, Command, Link, Step, shell};

use crate::args::Args;
use crate::image::{Image, Kind};
use crate::source::Source;

/// unpack's only step.
pub struct Extract {
    image: PathBuf,
    root: PathBuf,
    store: Option<PathBuf>,
    /// tar(1) can extract it.
    plain: bool,
}

impl fmt::Display for Extract {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (image, root) = (shell::quote(&self.image), shell::quote(&self.root));
        if let Some(store) = &self.store {
            writeln!(f, "# Each layer by itself, with overlayfs's marks, which no command of every system makes.")?;
            return write!(f, "unpack --layers {} {image} {root} >/dev/null", shell::quote(store));
        }
        if !self.plain {
            writeln!(f, "# Layers, with whiteouts, which no command of every system puts together.")?;
            return write!(f, "unpack {image} {root} >/dev/null");
        }
        writeln!(f, "# Into a hidden directory beside it in truth, and renamed when it is whole.")?;
        writeln!(f, "mkdir {root}")?;
        write!(f, "tar --numeric-owner --xattrs --xattrs-include='*' --acls -C {root} -xpf {image}")
    }
}

impl Step for Extract {
    type State = Carry;

    fn perform(&self, _: &mut Carry) -> Result<()> {
        anyhow::bail!("{self}: is only ever printed")
    }
}

pub fn print(link: Link, args: &Args, root: &Path) -> Result<()> {
    let (steps, command) = plan(args, root, is_plain(args, root)?);
    link.run(&steps, |carry| carry, &command)
}

pub fn plan(args: &Args, root: &Path, plain: bool) -> ([Extract; 1], Command) {
    let steps = [Extract { image: args.image.clone(), root: root.to_owned(), store: args.layers.clone(), plain }];
    let command = match args.command.is_empty() {
        true => Command::new(vec!["echo".into(), root.into()], Default::default),
        false => Command::new(args.command.clone(), Default::default),
    };
    (steps, command)
}

/// Whether the image is a plain archive, as far as that can be told without taking anything from a pipe. A missing image
/// counts as one: explaining needs none.
fn is_plain(args: &Args, root: &Path) -> Result<bool> {
    let request = crate::extract::request(args, root)?;
    Ok(match Source::open(&args.image) {
        Ok(Source::Stream(_)) | Err(_) => true,
        Ok(source) => Image::open(source, &request).map_or(true, |image| image.kind == Kind::RootFs),
    })
}
