// The reference of `make bench`: go-control-plane as a careful user would run it, on the same etcd prefix as Leadsman.
//
// It reads records of the `leadsman` layout, keeps the parts of each assignment between changes, and gives the cache one
// update for everything the watch has delivered so far. It has no guard, no policy and no admin API: what it does not do
// is in its favour.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "where to serve")
	endpoint := flag.String("etcd", "", "host:port of etcd")
	prefix := flag.String("prefix", "", "the keys to read")
	kind := flag.String("cache", "linear", "linear or snapshot")
	source := flag.String("source", "bench", "the name that the metadata of endpoints carries")
	flag.Parse()
	log.SetOutput(os.Stderr)

	sink, err := newSink(*kind)
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	registry, err := list(ctx, *endpoint, *prefix, *source)
	if err != nil {
		log.Fatalf("can't list %s: %v", *prefix, err)
	}
	if err := sink.publish(ctx, registry.all()); err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(registry.follow(ctx, sink)) }()

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	// One pair of buffers per connection in use rather than per connection: the memory setting grpc-go recommends.
	options := []grpc.ServerOption{
		grpc.SharedWriteBuffer(true),
		grpc.MaxConcurrentStreams(16),
		grpc.MaxRecvMsgSize(64 << 20),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	}
	ads := grpc.NewServer(options...)
	discovery.RegisterAggregatedDiscoveryServiceServer(ads, server.NewServer(ctx, sink.cache(), nil))
	fmt.Println("ready")
	log.Fatal(ads.Serve(listener))
}
