//! The environment as execve(2) takes it. The strings stay where the kernel put them: copying what only passes through
//! was most of a link's own work.

use std::borrow::Cow;
use std::ffi::{CStr, CString, OsStr, OsString, c_char};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result};

use crate::shell;
use crate::tool::CARRY;

/// Entries NAME=VALUE, in the order in which they are passed on.
#[derive(Clone, Debug)]
pub struct Environment(Vec<Cow<'static, CStr>>);

unsafe extern "C" {
    /// environ(7).
    static environ: *const *const c_char;
}

impl Environment {
    /// This process's own environment, without the carry.
    pub(crate) fn inherited() -> Environment {
        let mut entries = Vec::with_capacity(64);
        // SAFETY: a null ends the list, and a NUL each entry; no tool changes its own environment, so
        // it stays for the life of the process.
        unsafe {
            let mut next = environ;
            while !next.is_null() && !(*next).is_null() {
                entries.push(Cow::Borrowed(CStr::from_ptr(*next)));
                next = next.add(1);
            }
        }
        let mut environment = Environment(entries);
        environment.remove(CARRY.as_ref());
        environment
    }

    /// Nothing but these.
    pub fn only(variables: &[(OsString, OsString)]) -> Result<Environment> {
        let mut environment = Environment(Vec::new());
        variables.iter().try_for_each(|(name, value)| environment.set(name, value))?;
        Ok(environment)
    }

    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.iter().rev().find_map(|entry| value(entry, name.as_ref())).map(OsStr::from_bytes)
    }

    pub fn set(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Result<()> {
        let (name, value) = (name.as_ref(), value.as_ref());
        let entry = [name.as_bytes(), b"=", value.as_bytes(), b"\0"].concat();
        let entry =
            CString::from_vec_with_nul(entry).with_context(|| format!("{}: contains a NUL", shell::quote(name)))?;
        self.remove(name);
        self.0.push(Cow::Owned(entry));
        Ok(())
    }

    fn remove(&mut self, name: &OsStr) {
        self.0.retain(|entry| value(entry, name).is_none());
    }

    pub(crate) fn entries(&self) -> &[Cow<'static, CStr>] {
        &self.0
    }
}

/// The value in an entry of this name.
fn value<'a>(entry: &'a CStr, name: &OsStr) -> Option<&'a [u8]> {
    entry.to_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Result<Environment> {
        Environment::only(&variables.iter().map(|&(name, value)| (name.into(), value.into())).collect::<Vec<_>>())
    }

    #[test]
    fn a_variable_is_found_by_its_whole_name_and_set_once() {
        let mut some = environment(&[("A", "1=2"), ("AB", ""), ("A", "3")]).unwrap();
        assert_eq!(some.get("A"), Some(OsStr::new("3")));
        assert_eq!(some.get("AB"), Some(OsStr::new("")));
        assert_eq!(some.get(""), None);
        some.set("AB", "x=y").unwrap();
        assert_eq!(some.entries(), [c"A=3", c"AB=x=y"]);
    }

    #[test]
    fn a_nul_is_refused() {
        assert!(environment(&[("A", "x\0y")]).is_err());
        assert!(environment(&[("A\0", "x")]).is_err());
    }

    #[test]
    fn what_is_inherited_is_what_std_says() {
        let all = Environment::inherited();
        for (name, value) in std::env::vars_os() {
            assert_eq!(name.to_str().and_then(|name| all.get(name)), Some(&*value), "{name:?}");
        }
        assert!(all.entries().len() >= std::env::vars_os().count());
    }
}
