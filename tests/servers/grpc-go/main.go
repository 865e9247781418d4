// What a proxyless gRPC client sees: it calls the health service of its target again and again and says, a line a call,
// which server answered or why nobody did. Its standard input says "TARGET CALLS" a line. With -serve it is a server.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	_ "google.golang.org/grpc/xds"
)

func main() {
	serve := flag.String("serve", "", "the address to serve on")
	flag.Parse()
	if *serve != "" {
		if err := server(*serve); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	channels := map[string]*grpc.ClientConn{}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var target string
		var calls int
		if _, err := fmt.Sscan(lines.Text(), &target, &calls); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if channels[target] == nil {
			channel, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			channels[target] = channel
		}
		for range calls {
			fmt.Println(call(channels[target]))
		}
	}
}

func server(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	name := func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		if err := grpc.SetHeader(ctx, metadata.Pairs("answered-by", address)); err != nil {
			return nil, err
		}
		return handle(ctx, request)
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(name))
	checks := health.NewServer()
	checks.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(server, checks)
	return server.Serve(listener)
}

// One line: the address of who answered, or the code and the milliseconds until the failure, and the reason.
func call(channel *grpc.ClientConn) string {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var header metadata.MD
	request := &grpc_health_v1.HealthCheckRequest{}
	_, err := grpc_health_v1.NewHealthClient(channel).Check(ctx, request, grpc.Header(&header))
	if code := status.Code(err); code != codes.OK {
		return fmt.Sprintf("failed %s %d %q", code, time.Since(began).Milliseconds(), status.Convert(err).Message())
	}
	return "ok " + header.Get("answered-by")[0]
}
