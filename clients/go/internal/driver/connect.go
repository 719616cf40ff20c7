package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/redis/go-redis/v9"
)

// connect makes a client as a program has it that is deployed so.
func connect(r request) redis.UniversalClient {
	options := &redis.UniversalOptions{
		IsClusterMode: r.Kind == "cluster", MasterName: r.Name, Username: r.User, Password: r.Password,
		PoolSize: r.Connections, ReadTimeout: seconds(r.Timeout),
	}
	for _, port := range r.Ports {
		options.Addrs = append(options.Addrs, fmt.Sprint("localhost:", port))
	}
	if pem, err := os.ReadFile(r.CA); err == nil {
		options.TLSConfig = &tls.Config{RootCAs: x509.NewCertPool()}
		options.TLSConfig.RootCAs.AppendCertsFromPEM(pem)
	}
	return redis.NewUniversalClient(options)
}
