package leadsman.tests;

import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.cloud.netflix.eureka.server.EnableEurekaServer;
import org.springframework.context.annotation.Bean;
import org.springframework.core.env.Environment;
import org.springframework.security.config.Customizer;
import org.springframework.security.config.annotation.web.builders.HttpSecurity;
import org.springframework.security.web.SecurityFilterChain;

/** The Eureka server of Spring Cloud, as its guide sets one up. */
@SpringBootApplication
@EnableEurekaServer
public class Eureka {
    public static void main(String[] arguments) {
        SpringApplication.run(Eureka.class, arguments);
    }

    /** Open, unless leadsman.auth=true asks for HTTP Basic on every path. */
    @Bean
    SecurityFilterChain chain(HttpSecurity http, Environment environment) throws Exception {
        http.csrf(csrf -> csrf.disable());
        if (environment.getProperty("leadsman.auth", Boolean.class, false)) {
            http.authorizeHttpRequests(requests -> requests.anyRequest().authenticated())
                .httpBasic(Customizer.withDefaults());
        } else {
            http.authorizeHttpRequests(requests -> requests.anyRequest().permitAll());
        }
        return http.build();
    }
}
