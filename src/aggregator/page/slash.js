// Files of the page lie below its path: where a proxy serves it as /ml, it is opened as /ml/.
const here = new URL(location.href);
if (!here.pathname.endsWith('/') && !here.pathname.endsWith('.html')) {
  here.pathname += '/';
  location.replace(here);
}
