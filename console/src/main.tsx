import "./style/tokens.css";
import "./style/page.css";
import "./style/panels.css";
import { render } from "preact";
import { App } from "./app";
import { chosenTheme, followSystem, show } from "./theme";

show(chosenTheme());
followSystem();
const page = document.getElementById("page");
if (page !== null) render(<App />, page);
