//! The table in a real kernel, in a network namespace of the test.

use super::*;
