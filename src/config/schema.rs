//! What a key of crio.conf is, and the macro that turns one table of keys into everything else.
//!
//! A table is written once, with [`table!`]: name, type, default, documentation, flag, variable and
//! status of every key. From it come the struct, its defaults, setting and reading a key by name,
//! the commented default file, the manual page, the flags of the command line and the suggestions
//! for a misspelt key. Nothing about a key is written down anywhere else.

use toml::Value;

use super::value::{Input, Reason, Shape};

/// What setting a key does in this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The key does what its documentation says.
    Honoured,
    /// The key is read and checked but changes nothing; the text says why.
    Accepted(&'static str),
    /// The key works, but the text names what replaces it.
    Deprecated(&'static str),
}

/// One key of a table.
#[derive(Debug)]
pub struct Key {
    /// Name in the file.
    pub name: &'static str,
    /// Documentation, as written in the table: lines that may begin with a space.
    pub doc: &'static str,
    /// Flag without its dashes, as CRI-O spells it; empty for none.
    pub flag: &'static str,
    /// One-letter form of the flag.
    pub short: Option<char>,
    /// Another name of the flag; empty for none.
    pub alias: &'static str,
    /// Environment variable, as CRI-O spells it; empty for none.
    pub env: &'static str,
    /// What setting it does.
    pub status: Status,
    /// What a value must look like, for messages: `a string`.
    pub expected: &'static str,
    /// How a value is written.
    pub shape: Shape,
}

impl Key {
    /// A key with nothing but defaults, which the tables refine.
    pub const PLAIN: Self = Self {
        name: "",
        doc: "",
        flag: "",
        short: None,
        alias: "",
        env: "",
        status: Status::Honoured,
        expected: "",
        shape: Shape::Scalar,
    };

    /// The documentation as plain lines.
    pub fn doc_lines(&self) -> impl Iterator<Item = &'static str> {
        self.doc
            .trim_end()
            .lines()
            .map(|line| line.strip_prefix(' ').unwrap_or(line))
    }
}

/// A table of the file whose keys can be set and read by name.
pub trait Table: std::fmt::Debug {
    /// The keys of this table itself, in the order in which they are printed.
    fn keys(&self) -> &'static [Key];

    /// Sets one key; `None` when this table has no key of that name.
    fn set(&mut self, name: &str, input: &Input<'_>) -> Option<Result<(), Reason>>;

    /// The value of one key as TOML; `None` when there is no such key, or it is unset and so is
    /// not written to a file.
    fn get(&self, name: &str) -> Option<Value>;

    /// The tables directly below this one, by name.
    fn children(&self) -> Vec<(String, &dyn Table)>;

    /// The table below this one to apply a file's table to; `None` when the name is unknown.
    fn child_mut(&mut self, name: &str) -> Option<&mut dyn Table>;

    /// For a table whose children's names are the user's (`runtimes.NAME`): a child with its
    /// defaults, for the documentation.
    fn example_child(&self) -> Option<Box<dyn Table>> {
        None
    }
}

/// Defines the struct of a table and its [`Table`] implementation.
///
/// A key reads `/// doc`, `name: Type = default => check, attribute = value;` where the check and
/// the attributes (fields of [`Key`]) may be left out, and `nested { name: Type }` at the end lists
/// the tables below it.
macro_rules! table {
    (
        $(#[$meta:meta])*
        $table:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident : $ty:ty = $default:expr
                    $(=> $check:expr)? $(, $attr:ident = $value:expr)* ;
            )*
            $(nested { $( $(#[$child_meta:meta])* $child:ident : $child_ty:ty, )* })?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $table {
            $( $(#[doc = $doc])+ pub $field: $ty, )*
            $( $( $(#[$child_meta])* pub $child: $child_ty, )* )?
        }

        impl Default for $table {
            fn default() -> Self {
                Self {
                    $( $field: $crate::config::value::preset::<$ty, _>($default), )*
                    $( $( $child: Default::default(), )* )?
                }
            }
        }

        impl $crate::config::schema::Table for $table {
            fn keys(&self) -> &'static [$crate::config::schema::Key] {
                use $crate::config::{schema::Key, value::Setting};
                #[allow(unused_imports)]
                use $crate::config::schema::Status::{Accepted, Deprecated};
                static KEYS: &[Key] = &[$( Key {
                    name: stringify!($field),
                    doc: concat!($($doc, "\n"),+),
                    expected: <$ty as Setting>::EXPECTED,
                    shape: <$ty as Setting>::SHAPE,
                    $( $attr: $value, )*
                    ..Key::PLAIN
                }, )*];
                KEYS
            }

            fn set(
                &mut self,
                name: &str,
                input: &$crate::config::value::Input<'_>,
            ) -> Option<Result<(), $crate::config::value::Reason>> {
                match name {
                    $( stringify!($field) => Some(
                        $crate::config::value::read::<$ty>(input).and_then(|value| {
                            $( ($check)(&value)?; )?
                            self.$field = value;
                            Ok(())
                        })
                    ), )*
                    _ => None,
                }
            }

            fn get(&self, name: &str) -> Option<toml::Value> {
                match name {
                    $( stringify!($field) =>
                        $crate::config::value::Setting::write(&self.$field), )*
                    _ => None,
                }
            }

            fn children(&self) -> Vec<(String, &dyn $crate::config::schema::Table)> {
                vec![$( $( (stringify!($child).to_owned(), &self.$child as _), )* )?]
            }

            fn child_mut(&mut self, name: &str) -> Option<&mut dyn $crate::config::schema::Table> {
                match name {
                    $( $( stringify!($child) => Some(&mut self.$child), )* )?
                    _ => None,
                }
            }
        }

        impl serde::Serialize for $table {
            fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                $crate::config::schema::serialize(self, out)
            }
        }
    };
}
pub(super) use table;

/// Writes a table and those below it as one map, keys first.
pub(super) fn serialize<S: serde::Serializer>(
    table: &dyn Table,
    out: S,
) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&to_toml(table), out)
}

/// A table and those below it as a TOML value; unset keys are left out.
pub fn to_toml(table: &dyn Table) -> Value {
    let mut map = toml::map::Map::new();
    for key in table.keys() {
        if let Some(value) = table.get(key.name) {
            map.insert(key.name.to_owned(), value);
        }
    }
    for (name, child) in table.children() {
        map.insert(name, to_toml(child));
    }
    Value::Table(map)
}

impl<T> Table for std::collections::BTreeMap<String, T>
where
    T: Table + Default + 'static,
{
    fn keys(&self) -> &'static [Key] {
        &[]
    }

    fn set(&mut self, _name: &str, _input: &Input<'_>) -> Option<Result<(), Reason>> {
        None
    }

    fn get(&self, _name: &str) -> Option<Value> {
        None
    }

    fn children(&self) -> Vec<(String, &dyn Table)> {
        self.iter()
            .map(|(name, child)| (name.clone(), child as &dyn Table))
            .collect()
    }

    /// A table in a later file replaces the one of the same name whole: that is what CRI-O does,
    /// and it lets a drop-in forget what the main file said.
    fn child_mut(&mut self, name: &str) -> Option<&mut dyn Table> {
        self.insert(name.to_owned(), T::default());
        self.get_mut(name).map(|child| child as &mut dyn Table)
    }

    fn example_child(&self) -> Option<Box<dyn Table>> {
        Some(Box::new(T::default()))
    }
}

/// What a map's child is called in the documentation.
pub const EXAMPLE_NAME: &str = "NAME";

/// Every table of the file format by its full name, with its keys, in the order of printing.
pub fn all() -> Vec<(String, &'static [Key])> {
    fn visit(path: String, table: &dyn Table, found: &mut Vec<(String, &'static [Key])>) {
        if let Some(child) = table.example_child() {
            return visit(format!("{path}.{EXAMPLE_NAME}"), child.as_ref(), found);
        }
        found.push((path.clone(), table.keys()));
        for (name, child) in table.children() {
            visit(format!("{path}.{name}"), child, found);
        }
    }
    let mut found = Vec::new();
    visit("crio".to_owned(), &super::Config::default(), &mut found);
    found
}
