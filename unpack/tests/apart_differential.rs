//! Layers apart, mounted by overlayfs, are the flat root: for random stacks of layers.

mod archive;
mod layout;
mod scene;
mod snapshot;
mod stacked;
mod stacks;

use layout::layout;
use scene::text;
use stacks::{Kind, seeds, told};

/// Without links most layers stand alone.
fn without_links(stack: &stacks::Stack) -> stacks::Stack {
    let is_link = |kind: &Kind| matches!(kind, Kind::Symlink(_) | Kind::HardLink(_));
    stack.iter().map(|layer| layer.iter().filter(|item| !is_link(&item.kind)).cloned().collect()).collect()
}

#[test]
fn random_stacks_are_mounted_as_the_flat_root_is() {
    let scene = stacked::scene();
    let (mut same, mut flattened, mut refused) = (0, 0, 0);
    let mut wrong = Vec::new();
    let stack_and_plain = |seed| {
        let stack = stacks::stack(seed);
        [(seed, without_links(&stack)), (seed, stack)]
    };
    for (seed, stack) in seeds(150).flat_map(stack_and_plain) {
        layout(&scene, &stack.iter().map(|layer| stacks::packed(layer)).collect::<Vec<_>>());
        let flat = scene.unpack(&["-q", "--replace", "oci", "root"]);
        let apart = scene.unpack(&["-q", "--replace", "--layers", "store", "oci", "n.mstack"]);
        let why = match (flat.status.success(), apart.status.success()) {
            (true, true) => {
                let receipt = std::fs::read_to_string(scene.path("n.mstack.image.json")).unwrap();
                flattened += usize::from(receipt.contains("chain-"));
                same += 1;
                stacked::differing(&scene, "n.mstack", "root")
            }
            (false, false) => {
                refused += 1;
                None
            }
            _ => Some("one of them was refused".to_owned()),
        };
        if let Some(why) = why {
            let said = text(&flat.stderr) + &text(&apart.stderr);
            wrong.push(format!("seed {seed}: {why}\n{said}{}", told(&stack)));
        }
        let _ = std::fs::remove_dir_all(scene.path("store"));
    }
    eprintln!("{same} compared, of which {flattened} flattened; {refused} refused; {} wrong", wrong.len());
    wrong.iter().for_each(|wrong| eprintln!("{}", wrong.lines().next().unwrap_or_default()));
    assert!(wrong.is_empty(), "{}", wrong[..wrong.len().min(2)].join("\n"));
}
