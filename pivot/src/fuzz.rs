//! What the fuzzers run of pivot: arguments to a plan, which is only printed, and what an image wants to run.

use std::path::Path;

use chain::fuzz::Target;
use chain::{Link, Tool};
use serde_json::Value;

/// By the name of the corpus's directory.
pub const TARGETS: [(&str, Target); 2] = [("argv-pivot", argv), ("as-image", as_image)];

pub fn argv(data: &[u8]) {
    let Some(args) = chain::fuzz::plain_line_arguments::<crate::args::Args>(Tool::Pivot, data) else { return };
    let command = chain::Command::new(args.command.clone(), || "/bin/sh".into());
    let link = Link::new(Tool::Pivot, &args.common);
    let files = crate::etc_files(&args);
    let steps = crate::plan(&args, &files, None, None, &link, &command, crate::host_tree(&args, &command));
    chain::fuzz::plan(Tool::Pivot, &steps, &command);
}

/// A receipt, and after a NUL each the passwd and the group file of its root.
pub fn as_image(data: &[u8]) {
    let root = chain::fuzz::root();
    std::fs::create_dir_all(root.join("etc")).expect("a directory in it");
    let mut parts = data.splitn(3, |&byte| byte == 0);
    let receipt = parts.next().unwrap_or_default();
    let write = |path: &Path, bytes: &[u8]| std::fs::write(path, bytes).expect("a file");
    for file in ["etc/passwd", "etc/group"] {
        write(&root.join(file), parts.next().unwrap_or_default());
    }
    write(&chain::handoff::receipt_path(root), &of_this_root(receipt, root));
    let Ok(config) = crate::image::read(root) else { return };
    assert!(config.image.user.is_none_or(|user| (user.uid, user.gid) != (0, 0)), "no change to the superuser is one");
    assert!(config.env.iter().any(|(name, _)| name == "HOME"), "no HOME");
    let mut args = <crate::args::Args as clap::Parser>::parse_from(["pivot", "--as-image", "root"]);
    args.chdir = config.working_dir;
    let command = chain::Command::new(Vec::new(), || "/bin/sh".into());
    let link = Link::new(Tool::Pivot, &args.common);
    let mut steps = crate::plan(&args, &[], Some(config.tree), None, &link, &command, crate::HostTree::Gone);
    steps.push(crate::Step::Environment { env: &config.env });
    chain::fuzz::plan(Tool::Pivot, &steps, &command);
}

/// A fuzzer cannot guess the directory that a receipt must name.
fn of_this_root(receipt: &[u8], root: &Path) -> Vec<u8> {
    let Ok(Value::Object(mut object)) = serde_json::from_slice(receipt) else { return receipt.to_vec() };
    let identity = std::fs::File::open(root).ok().and_then(|root| chain::receipt::identity(root).ok());
    object.insert("root".into(), identity.unwrap_or_default());
    serde_json::to_vec(&object).unwrap_or_default()
}
