//! Capabilities that pass from link to link while the user stays the same. After an exec a user other than root keeps
//! only ambient ones (capabilities(7)). COMMAND must have none of them.

use anyhow::{Context, Result};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

pub(crate) fn give_up() -> Result<()> {
    let had = capabilities(None).context("capabilities")?;
    // What is not inheritable any more is not ambient, either (capset(2)).
    let sets = CapabilitySets { inheritable: CapabilitySet::empty(), ..had };
    set_capabilities(None, sets).context("capset")
}
