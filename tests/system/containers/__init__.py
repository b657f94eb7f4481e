"""The image and the compose stack in a real Docker engine. Minutes, not seconds: `make test-containers` runs them."""
