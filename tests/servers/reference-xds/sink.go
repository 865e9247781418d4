package main

import (
	"context"
	"fmt"
	"strconv"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
)

// sink is a cache of go-control-plane.
type sink interface {
	publish(ctx context.Context, changed map[string]types.Resource) error
	cache() cache.Cache
}

func newSink(kind string) (sink, error) {
	switch kind {
	case "linear":
		return &linear{cache.NewLinearCache(resource.EndpointType)}, nil
	case "snapshot":
		return &snapshot{snapshots: cache.NewSnapshotCache(true, everyone{}, nil), held: map[string]types.Resource{}}, nil
	default:
		return nil, fmt.Errorf("no cache is called %q: linear or snapshot", kind)
	}
}

type linear struct{ resources *cache.LinearCache }

func (l *linear) cache() cache.Cache { return l.resources }

func (l *linear) publish(_ context.Context, changed map[string]types.Resource) error {
	return l.resources.UpdateResources(changed, nil)
}

// everyone puts all nodes into one group, so that one snapshot serves them all.
type everyone struct{}

func (everyone) ID(*core.Node) string { return "" }

type snapshot struct {
	snapshots cache.SnapshotCache
	held      map[string]types.Resource
	version   uint64
}

func (s *snapshot) cache() cache.Cache { return s.snapshots }

func (s *snapshot) publish(ctx context.Context, changed map[string]types.Resource) error {
	for name, assignment := range changed {
		s.held[name] = assignment
	}
	all := make([]types.Resource, 0, len(s.held))
	for _, assignment := range s.held {
		all = append(all, assignment)
	}
	s.version++
	next, err := cache.NewSnapshot(strconv.FormatUint(s.version, 10), map[resource.Type][]types.Resource{resource.EndpointType: all})
	if err != nil {
		return err
	}
	return s.snapshots.SetSnapshot(ctx, "", next)
}
