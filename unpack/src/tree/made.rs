//! What the current layer has made, which its own whiteouts spare.

use std::collections::HashSet;

use super::dir::{Dir, Standing};
use super::place::{Place, Places};

/// Where no lower layer has anything, nothing needs remembering: the first layer costs nothing.
pub struct Made {
    places: Places,
    layer: u32,
    /// Names that entries gave to something.
    entries: HashSet<Place>,
    /// Directories that the layer put something in or below.
    live: HashSet<Place>,
    /// Directories without anything of lower layers in or below them: new ones, and those that were emptied.
    own: HashSet<Place>,
}

impl Made {
    pub fn first_layer(places: Places) -> Made {
        let own = HashSet::from([Places::ROOT]);
        Made { places, layer: 1, entries: HashSet::new(), live: HashSet::new(), own }
    }

    pub fn next_layer(&mut self) {
        self.layer += 1;
        (self.entries, self.live, self.own) = Default::default();
    }

    /// Whether nothing of lower layers is in a directory.
    pub fn is_own(&self, dir: &Dir) -> bool {
        self.standing(dir).own
    }

    pub fn is_entry(&self, dir: &Dir, name: &[u8]) -> bool {
        self.entries.contains(&self.places.of_name(dir.place(), name))
    }

    pub fn is_live(&self, dir: &Dir, name: &[u8]) -> bool {
        self.live.contains(&self.places.of_name(dir.place(), name))
    }

    /// An entry gives this name to something.
    pub fn entry(&mut self, dir: &Dir, name: &[u8]) {
        if !self.is_own(dir) {
            self.entries.insert(self.places.of_name(dir.place(), name));
        }
    }

    /// Something is put into a directory.
    pub fn put_into(&mut self, dir: &Dir) {
        let standing = self.standing(dir);
        if standing.live {
            return;
        }
        dir.set_standing(Standing { live: true, ..standing });
        let along: Vec<Place> = self.places.along(dir.path()).collect();
        for &place in along.iter().rev() {
            if !self.live.insert(place) {
                break;
            }
        }
    }

    /// A directory was made.
    pub fn directory(&mut self, parent: &Dir, name: &[u8]) {
        if !self.is_own(parent) {
            self.put_into(parent);
            let place = self.places.of_name(parent.place(), name);
            self.live.insert(place);
            self.own.insert(place);
        }
    }

    /// What lower layers had in a directory is gone.
    pub fn emptied(&mut self, dir: &Dir) {
        self.own.insert(dir.place());
        dir.set_standing(Standing { own: true, ..self.standing(dir) });
    }

    fn standing(&self, dir: &Dir) -> Standing {
        let known = dir.standing();
        if known.layer == self.layer {
            return known;
        }
        let (mut own, mut live) = (false, false);
        for place in self.places.along(dir.path()) {
            // Below a directory of the layer's own nobody asks what is live, but for that directory itself.
            if !own {
                live = self.live.contains(&place);
                own = self.own.contains(&place);
            }
        }
        let standing = Standing { layer: self.layer, own, live };
        dir.set_standing(standing);
        standing
    }
}
