module leadsman.invalid/tests/servers/consul

go 1.25.7

require github.com/hashicorp/consul v1.22.5

// Consul's own module leaves these two out, because they break its messages; a main module does not inherit that.
exclude (
	github.com/hashicorp/go-msgpack v1.1.5
	github.com/hashicorp/go-msgpack v1.1.6
)
