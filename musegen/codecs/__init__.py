"""One codec for each kind of data: frozen settings and an inverse pair, `encode` and `decode`."""
