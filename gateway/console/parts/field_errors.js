// Errors beside the fields they are about.

import { element } from "../dom.js";

/** Shows each of [{field, message}] at its control, by the name the path begins with; focuses the first. False where one
 * has no control here, so that the caller says it otherwise. */
export function showFieldErrors(controls, errors) {
  for (const control of Object.values(controls)) {
    document.getElementById(`${control.id}-problem`)?.remove();
    control.removeAttribute("aria-invalid");
    const described = (control.getAttribute("aria-describedby") ?? "").replace(`${control.id}-problem`, "").trim();
    if (described) control.setAttribute("aria-describedby", described);
    else control.removeAttribute("aria-describedby");
  }
  let first = null;
  for (const { field, message } of errors) {
    const control = controls[String(field).split(/[.[]/)[0]];
    if (!control) return false;
    const id = `${control.id}-problem`;
    const problem = document.getElementById(id) ?? element("small", { id, class: "problem", role: "alert" });
    problem.textContent = problem.textContent ? `${problem.textContent}; ${message}` : message;
    control.after(problem);
    if (control.matches("input, select, textarea")) control.setAttribute("aria-invalid", "true");
    control.setAttribute("aria-describedby", `${control.getAttribute("aria-describedby") ?? ""} ${id}`.trim());
    first ??= control;
  }
  (first?.matches("fieldset") ? first.querySelector("input") : first)?.focus();
  return errors.length > 0;
}
