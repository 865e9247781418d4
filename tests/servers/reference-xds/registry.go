package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	envoy "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	etcd "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const pageSize = 5000

// record is what an instance says of itself.
type record struct {
	Address  string   `json:"address"`
	Port     uint16   `json:"port"`
	Weight   *float64 `json:"weight"`
	Health   string   `json:"health"`
	Locality struct {
		Region  string `json:"region"`
		Zone    string `json:"zone"`
		SubZone string `json:"sub_zone"`
	} `json:"locality"`
}

// instance is a record as it is published.
type instance struct {
	locality *core.Locality
	address  netip.AddrPort
	endpoint *envoy.LbEndpoint
}

type registry struct {
	client   *etcd.Client
	prefix   string
	source   string
	revision int64
	services map[string]map[string]instance
}

// list reads everything at one revision, in pages.
func list(ctx context.Context, endpoint, prefix, source string) (*registry, error) {
	client, err := etcd.New(etcd.Config{Endpoints: []string{endpoint}, MaxCallRecvMsgSize: 64 << 20})
	if err != nil {
		return nil, err
	}
	r := &registry{client: client, prefix: prefix, source: source, services: map[string]map[string]instance{}}
	from, end := prefix, etcd.GetPrefixRangeEnd(prefix)
	for {
		options := []etcd.OpOption{etcd.WithRange(end), etcd.WithLimit(pageSize), etcd.WithRev(r.revision)}
		page, err := client.Get(ctx, from, options...)
		if err != nil {
			return nil, err
		}
		if r.revision == 0 {
			r.revision = page.Header.Revision
		}
		for _, pair := range page.Kvs {
			r.put(string(pair.Key), pair.Value)
		}
		if !page.More || len(page.Kvs) == 0 {
			return r, nil
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}

// follow gives the sink every service that changed, once for all that the watch has ready.
func (r *registry) follow(ctx context.Context, sink sink) error {
	changes := r.client.Watch(ctx, r.prefix, etcd.WithPrefix(), etcd.WithRev(r.revision+1))
	for response := range changes {
		dirty := map[string]bool{}
		if err := r.take(response, dirty); err != nil {
			return err
		}
		for more := true; more; {
			select {
			case response, open := <-changes:
				if !open {
					return fmt.Errorf("the watch ended")
				}
				if err := r.take(response, dirty); err != nil {
					return err
				}
			default:
				more = false
			}
		}
		changed := make(map[string]types.Resource, len(dirty))
		for service := range dirty {
			changed[service] = r.assignment(service)
		}
		if err := sink.publish(ctx, changed); err != nil {
			return err
		}
	}
	return fmt.Errorf("the watch ended")
}

func (r *registry) take(response etcd.WatchResponse, dirty map[string]bool) error {
	if err := response.Err(); err != nil {
		return err
	}
	for _, event := range response.Events {
		key := string(event.Kv.Key)
		if event.Type == etcd.EventTypeDelete {
			delete(r.services[r.service(key)], key)
		} else {
			r.put(key, event.Kv.Value)
		}
		dirty[r.service(key)] = true
	}
	return nil
}

func (r *registry) service(key string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(key, r.prefix), "/")
	return name
}

func (r *registry) put(key string, value []byte) {
	var said record
	if json.Unmarshal(value, &said) != nil {
		return
	}
	address, err := netip.ParseAddr(said.Address)
	if err != nil {
		return
	}
	service := r.service(key)
	if r.services[service] == nil {
		r.services[service] = map[string]instance{}
	}
	locality := &core.Locality{Region: said.Locality.Region, Zone: said.Locality.Zone, SubZone: said.Locality.SubZone}
	r.services[service][key] = instance{locality, netip.AddrPortFrom(address, said.Port), r.endpoint(&said, locality)}
}

func (r *registry) endpoint(said *record, locality *core.Locality) *envoy.LbEndpoint {
	weight := uint32(1)
	if said.Weight != nil {
		weight = uint32(*said.Weight)
	}
	socket := &core.SocketAddress{Address: said.Address, PortSpecifier: &core.SocketAddress_PortValue{PortValue: uint32(said.Port)}}
	endpoint := &envoy.LbEndpoint{
		HostIdentifier: &envoy.LbEndpoint_Endpoint{Endpoint: &envoy.Endpoint{
			Address: &core.Address{Address: &core.Address_SocketAddress{SocketAddress: socket}},
		}},
		HealthStatus:        health(said.Health),
		LoadBalancingWeight: wrapperspb.UInt32(weight),
	}
	// A revision of another hash than Leadsman's, of the same length: the comparison leaves its value out.
	content, _ := proto.MarshalOptions{Deterministic: true}.Marshal(endpoint)
	revision := fmt.Sprintf("%08x", crc32.ChecksumIEEE(append(content, locality.SubZone...)))
	endpoint.Metadata = &core.Metadata{FilterMetadata: map[string]*structpb.Struct{"leadsman": {
		Fields: map[string]*structpb.Value{"rev": structpb.NewStringValue(revision), "src": structpb.NewStringValue(r.source)},
	}}}
	return endpoint
}

func health(text string) core.HealthStatus {
	switch text {
	case "healthy":
		return core.HealthStatus_HEALTHY
	case "unhealthy":
		return core.HealthStatus_UNHEALTHY
	case "draining":
		return core.HealthStatus_DRAINING
	case "degraded":
		return core.HealthStatus_DEGRADED
	default:
		return core.HealthStatus_UNKNOWN
	}
}

func (r *registry) all() map[string]types.Resource {
	all := make(map[string]types.Resource, len(r.services))
	for service := range r.services {
		all[service] = r.assignment(service)
	}
	return all
}

// assignment groups the endpoints by locality, both in order.
func (r *registry) assignment(service string) types.Resource {
	instances := make([]instance, 0, len(r.services[service]))
	for _, one := range r.services[service] {
		instances = append(instances, one)
	}
	slices.SortFunc(instances, func(a, b instance) int {
		if order := compare(a.locality, b.locality); order != 0 {
			return order
		}
		return a.address.Compare(b.address)
	})
	assignment := &envoy.ClusterLoadAssignment{ClusterName: service}
	for _, one := range instances {
		last := len(assignment.Endpoints) - 1
		if last < 0 || compare(assignment.Endpoints[last].Locality, one.locality) != 0 {
			assignment.Endpoints = append(assignment.Endpoints, &envoy.LocalityLbEndpoints{Locality: one.locality})
			last++
		}
		assignment.Endpoints[last].LbEndpoints = append(assignment.Endpoints[last].LbEndpoints, one.endpoint)
	}
	for _, group := range assignment.Endpoints {
		group.LoadBalancingWeight = wrapperspb.UInt32(max(1, usable(group.LbEndpoints)))
	}
	return assignment
}

// usable is what a locality weighs: gRPC ignores one without a weight.
func usable(endpoints []*envoy.LbEndpoint) uint32 {
	sum := uint32(0)
	for _, endpoint := range endpoints {
		if endpoint.HealthStatus == core.HealthStatus_HEALTHY || endpoint.HealthStatus == core.HealthStatus_UNKNOWN {
			sum += endpoint.LoadBalancingWeight.Value
		}
	}
	return sum
}

func compare(a, b *core.Locality) int {
	parts := [][2]string{{a.Region, b.Region}, {a.Zone, b.Zone}, {a.SubZone, b.SubZone}}
	for _, pair := range parts {
		if order := bytes.Compare([]byte(pair[0]), []byte(pair[1])); order != 0 {
			return order
		}
	}
	return 0
}
