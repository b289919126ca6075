/** Copies text, also where the clipboard's interface is missing, as in some browsers on file://. */

/** Whether the text of an element is now on the clipboard; if not, it is selected. */
export async function copyText(shown: HTMLElement): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(shown.textContent ?? "");
    return true;
  } catch {
    getSelection()?.selectAllChildren(shown);
    return document.execCommand("copy");
  }
}
