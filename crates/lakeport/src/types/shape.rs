//! Record batches brought into the shape of their mapping.
