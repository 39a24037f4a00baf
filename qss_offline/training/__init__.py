"""From a recording and a few online steps to a policy: offline D3G, BCO, and their rounds."""
