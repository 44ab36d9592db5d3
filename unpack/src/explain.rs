//! What unpack would do, as a shell script.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use chain::{Carry, Command, Link, Step, shell};

use crate::args::Args;

/// The one step that unpack is, as tar(1) does it for a plain archive.
pub struct Extract {
    image: PathBuf,
    root: PathBuf,
}

impl fmt::Display for Extract {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (image, root) = (shell::quote(&self.image), shell::quote(&self.root));
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

pub fn print(link: Link, args: &Args, root: &Path) -> Result<ExitCode> {
    let steps = [Extract { image: args.image.clone(), root: root.to_owned() }];
    let command = match args.command.is_empty() {
        true => Command::new(vec!["echo".into(), root.into()], Default::default),
        false => Command::new(args.command.clone(), Default::default),
    };
    link.run(&steps, |carry| carry, &command)
}
