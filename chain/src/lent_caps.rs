//! Capabilities that pass from link to link while the user stays the same. After an exec a user other than root keeps
//! only ambient ones (capabilities(7)). COMMAND must have none of them.

use anyhow::{Context, Result};

use crate::capabilities::{self, CapabilitySet, CapabilitySets};

pub(crate) fn give_up() -> Result<()> {
    let had = capabilities::get().context("capabilities")?;
    // What is not inheritable any more is not ambient, either (capset(2)).
    capabilities::set(CapabilitySets { inheritable: CapabilitySet::empty(), ..had }).context("capset")
}
