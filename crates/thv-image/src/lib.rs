//! What an image reference means, and whether what it names is what its author published.
