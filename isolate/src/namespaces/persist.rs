//! Binds namespaces to files, so that they outlive their last process.

use std::path::Path;

use anyhow::{Context, Error, Result};
use chain::Hint;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::unistd::Pid;

use crate::namespaces::{Kind, New};

/// Binds those namespaces of `child` for which a file was given, in this process's mount namespace.
pub fn keep(new: &[New], child: Pid) -> Result<()> {
    for New { kind, file } in new {
        let Some(file) = file else { continue };
        let source = format!("/proc/{child}/ns/{}", kind.file());
        let result = mount(Some(source.as_str()), file, None::<&str>, MsFlags::MS_BIND, None::<&str>);
        result.map_err(|errno| why(errno, *kind, file)).with_context(|| format!("keep the new {kind} namespace"))?;
    }
    Ok(())
}

fn why(errno: Errno, kind: Kind, file: &Path) -> Error {
    let shown = file.display();
    let hint = match errno {
        Errno::ENOENT => format!("the file must be there: touch {shown}"),
        Errno::EPERM | Errno::EACCES => "only root can bind a namespace to a file".into(),
        Errno::EINVAL if kind == Kind::Mount => format!(
            "a mount namespace can be bound only to a file on a private mount: mount --bind DIR DIR; \
             mount --make-private DIR, for the DIR that {shown} is in. Where it is private, start isolate on another \
             processor (taskset -c N): Linux 6.18 numbers namespaces by processor, and binds none with a number below ours"
        ),
        _ => return Error::new(errno).context(shown.to_string()),
    };
    Error::new(errno).context(shown.to_string()).context(Hint(hint))
}
