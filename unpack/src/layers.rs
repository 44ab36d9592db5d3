//! An image's layers apart: each once in a store, and a directory of links to them, as overlayfs stacks them.

mod needs;
mod prune;
mod seam;
mod stack;
mod store;
mod view;

pub use prune::prune;
pub use stack::Stack;
pub use store::Store;
