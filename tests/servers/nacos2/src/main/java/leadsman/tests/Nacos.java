package leadsman.tests;

import com.alibaba.nacos.core.code.ControllerMethodsCache;
import com.alibaba.nacos.sys.filter.NacosTypeExcludeFilter;
import javax.annotation.PostConstruct;
import org.springframework.beans.factory.annotation.Autowired;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.AutoConfigurationExcludeFilter;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.context.TypeExcludeFilter;
import org.springframework.boot.web.servlet.ServletComponentScan;
import org.springframework.context.annotation.ComponentScan;
import org.springframework.context.annotation.ComponentScan.Filter;
import org.springframework.context.annotation.FilterType;
import org.springframework.scheduling.annotation.EnableScheduling;

/** The server modules of Nacos 2 in one context, without the console, which is not published. */
@SpringBootApplication
@ComponentScan(basePackages = "com.alibaba.nacos", excludeFilters = {
    @Filter(type = FilterType.CUSTOM, classes = NacosTypeExcludeFilter.class),
    @Filter(type = FilterType.CUSTOM, classes = TypeExcludeFilter.class),
    @Filter(type = FilterType.CUSTOM, classes = AutoConfigurationExcludeFilter.class)})
@ServletComponentScan("com.alibaba.nacos")
@EnableScheduling
public class Nacos {
    @Autowired
    private ControllerMethodsCache methods;

    public static void main(String[] arguments) {
        SpringApplication.run(Nacos.class, arguments);
        if (Boolean.getBoolean("leadsman.once")) {
            // The build wants the archive of its classes, which is written at the end.
            System.exit(0);
        }
    }

    /** The console does this in the stock server; a controller that is not listed answers 501. */
    @PostConstruct
    public void listControllers() {
        methods.initClassMethod("com.alibaba.nacos.core.controller");
        methods.initClassMethod("com.alibaba.nacos.naming.controllers");
        methods.initClassMethod("com.alibaba.nacos.config.server.controller");
    }
}
